"""Credits that a batch may spend: reserved with the intent, settled with what the service took. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from .._exceptions import BudgetExceededError
from .._models import DEFAULT_MODEL, GenerateRequest


class Prices:
    """What a request costs: quantity times (the model's cost, and one more for each reference after the first).

    What the service took for a request of the same kind is believed before that.
    """

    def __init__(self, costs: Mapping[str, int]) -> None:
        self._costs = dict(costs)
        self._told: dict[tuple[str, int, int], int] = {}

    def __contains__(self, model: object) -> bool:
        return model in self._costs

    def of(self, request: GenerateRequest) -> int | None:
        """Credits for one request; None when its model's price isn't known."""
        told = self._told.get(_kind(request))
        cost = self._costs.get(request.model or DEFAULT_MODEL)
        if told is not None or cost is None:
            return told
        return request.quantity * (cost + max(0, len(request.reference_images) - 1))

    def learn(self, request: GenerateRequest, credits: int | None) -> None:  # noqa: A002
        """The service took so many for this one: it may clamp the quantity, or count references otherwise."""
        if credits is not None:
            self._told[_kind(request)] = credits

    def total(self, model: str, images: int, surcharge: int) -> int | None:
        """Credits for many images of one model, and the surcharge of their references."""
        cost = self._costs.get(model)
        return None if cost is None else images * cost + surcharge


def _kind(request: GenerateRequest) -> tuple[str, int, int]:
    return request.model or DEFAULT_MODEL, request.quantity, len(request.reference_images)


class Budget:
    """Never lets `spent` and what is reserved together pass `limit`; None is no limit."""

    def __init__(self, limit: int | None, *, spent: int = 0) -> None:
        self.limit = limit
        self.spent = spent
        self._reserved: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Budget [{self.spent} spent, {self.reserved} reserved of {self.limit}]>"

    @property
    def reserved(self) -> int:
        """Credits promised to submissions under way."""
        return sum(self._reserved.values())

    def reserve(self, index: int, cost: int | None) -> None:
        """Set a request's cost aside. Raises: BudgetExceededError, with nothing set aside."""
        if self.limit is not None:
            self._check(self.limit - self.spent - self.reserved, cost)
        self._reserved[index] = cost or 0

    def release(self, index: int) -> None:
        """The request was not taken."""
        self._reserved.pop(index, None)

    def settle(self, index: int, credits: int | None) -> None:  # noqa: A002
        """The request was taken; what the service says it took counts, else what was set aside. Counts once."""
        reserved = self._reserved.pop(index, None)
        if reserved is not None:
            self.spent += credits if credits is not None else reserved

    def _check(self, left: int, cost: int | None) -> None:
        if cost is None:
            raise BudgetExceededError(
                "what the next request costs isn't known, so a budget can't be kept; name a model that "
                "`nanobanana models` lists, or run without --max-credits"
            )
        if cost > left:
            raise BudgetExceededError(
                f"the next request costs {cost}, but the budget of {self.limit} has only {max(0, left)} left; "
                "run again with a larger --max-credits"
            )
