"""Credits that a batch may spend: reserved with the intent, settled with what the service took. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from .._exceptions import BudgetExceededError
from .._models import DEFAULT_MODEL, GenerateRequest


class Prices:
    """What a request costs: quantity times (the model's cost, and one more for each reference after the first)."""

    def __init__(self, costs: Mapping[str, int]) -> None:
        self._costs = dict(costs)

    def __contains__(self, model: object) -> bool:
        return model in self._costs

    def __bool__(self) -> bool:
        return bool(self._costs)

    def of(self, request: GenerateRequest) -> int | None:
        """Credits for one request; None when its model's price isn't known."""
        cost = self._costs.get(request.model or DEFAULT_MODEL)
        if cost is None:
            return None
        return request.quantity * (cost + max(0, len(request.reference_images) - 1))

    def total(self, model: str, images: int, surcharge: int) -> int | None:
        """Credits for many images of one model, and the surcharge of their references."""
        cost = self._costs.get(model)
        return None if cost is None else images * cost + surcharge


class Budget:
    """Never lets `spent` and what is reserved together pass `limit`; None is no limit."""

    def __init__(self, limit: int | None, *, spent: int = 0) -> None:
        self.limit = limit
        self.spent = spent
        self._reserved: dict[int, int] = {}

    @property
    def reserved(self) -> int:
        """Credits promised to submissions under way."""
        return sum(self._reserved.values())

    def reserve(self, index: int, cost: int | None) -> None:
        """Set a request's cost aside. Raises: BudgetExceededError, with nothing set aside."""
        wanted = cost or 0
        if self.limit is not None and self.spent + self.reserved + wanted > self.limit:
            raise BudgetExceededError(
                f"the next request costs {wanted} credits, but only {self.limit - self.spent - self.reserved} of the "
                f"budget of {self.limit} are left; run again with a larger --max-credits"
            )
        self._reserved[index] = wanted

    def release(self, index: int) -> None:
        """The request was not taken."""
        self._reserved.pop(index, None)

    def settle(self, index: int, credits: int | None) -> None:  # noqa: A002
        """The request was taken; what the service says it took counts, else what was set aside."""
        reserved = self._reserved.pop(index, 0)
        self.spent += credits if credits is not None else reserved
