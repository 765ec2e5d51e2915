"""What a batch is going to cost, before the first POST. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .._exceptions import BudgetExceededError, InsufficientCreditsError, NanoBananaError
from .._models import URL_LIFETIME
from ._budget import Prices
from ._inputs import ModelCounts

TYPICAL_SECONDS = 14.0  # a generation, submission and detection included: a log-normal with a median of 12 s


@dataclass(frozen=True, slots=True)
class ModelEstimate:
    """One model's share. `credits` is None when its price isn't known."""

    model: str
    rows: int
    images: int
    credits: int | None


@dataclass(frozen=True, slots=True)
class Preflight:
    """What is still to be submitted. `balance` and `limit` are None when unknown; `seconds` is at `limit`, or at 1.

    `looked_at` of the rows are paid already: a run looks at their generations first, so all of it may cost less.
    `length` is how many seconds a generation takes: as earlier runs have seen, else as is typical.
    Not among the rows are those `given_up` after all their attempts, and those `judged` first: an earlier run ended
    before it read their answers, and the balance tells whether they are sent again.
    """

    models: tuple[ModelEstimate, ...]
    balance: int | None
    spent: int
    limit: int | None
    max_credits: int | None
    looked_at: int = 0
    length: float = TYPICAL_SECONDS
    given_up: int = 0
    judged: int = 0

    @classmethod
    def of(
        cls,
        open_by_model: Mapping[str, ModelCounts],
        prices: Prices,
        *,
        balance: int | None,
        spent: int = 0,
        limit: int | None = None,
        max_credits: int | None = None,
        looked_at: int = 0,
        length: float | None = None,
        given_up: int = 0,
        judged: int = 0,
    ) -> Preflight:
        """Count the open rows by model and price them."""
        models = tuple(
            ModelEstimate(name, counts.rows, counts.images, prices.total(name, counts.images, counts.surcharge))
            for name, counts in sorted(open_by_model.items())
        )
        return cls(models, balance, spent, limit, max_credits, looked_at, length or TYPICAL_SECONDS, given_up, judged)

    @property
    def rows(self) -> int:
        """Rows to submit."""
        return sum(model.rows for model in self.models)

    @property
    def images(self) -> int:
        """Images to make."""
        return sum(model.images for model in self.models)

    @property
    def credits(self) -> int | None:
        """What it all costs; None when a price isn't known."""
        costs = [model.credits for model in self.models]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

    @property
    def seconds(self) -> float:
        """About how long it takes."""
        return self.rows * self.length / (self.limit or 1)

    @property
    def outlives_links(self) -> bool:
        """Whether it takes longer than a link lives, so that images must be fetched as they come."""
        return self.seconds > URL_LIFETIME.total_seconds()

    def shortfall(self) -> NanoBananaError | None:
        """Why it can't be carried to the end: the budget, or the balance; None when it can."""
        cost = self.credits
        if cost is None:
            return None
        if self.max_credits is not None and self.spent + cost > self.max_credits:
            spent = f" ({self.spent} are spent already)" if self.spent else ""
            return BudgetExceededError(
                f"the batch costs {cost} credits, more than --max-credits {self.max_credits} allows{spent}; raise it, "
                "or run as far as it goes with --partial"
            )
        if self.balance is not None and cost > self.balance:
            return InsufficientCreditsError(
                f"the batch costs {cost} credits, but the account has {self.balance}; top it up, or run as far as "
                "they go with --partial",
                status_code=402,
            )
        return None
