"""Prices and the budget: what is promised counts as spent until it is known better."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobanana_async import BudgetExceededError, GenerateRequest
from nanobanana_async.batch._budget import Budget, Prices

PRICES = Prices({"nano-banana": 1, "pro": 4})
LINKS = ("https://a/1.png", "https://a/2.png", "https://a/3.png")


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        ({}, 1),
        ({"quantity": 3}, 3),
        ({"model": "pro", "quantity": 2}, 8),
        ({"reference_images": LINKS[:1]}, 1),
        ({"reference_images": LINKS, "quantity": 2}, 6),
        ({"model": "unheard-of"}, None),
    ],
)
def test_prices(fields, cost):
    """Quantity times the model's cost, and one more for each reference after the first."""
    assert PRICES.of(GenerateRequest(prompt="a cat", **fields)) == cost


def test_what_the_service_took_is_believed():
    """For requests of the same kind only."""
    prices = Prices({"pro": 4})
    prices.learn(GenerateRequest(prompt="a cat", model="pro", quantity=9), 16)
    assert prices.of(GenerateRequest(prompt="a dog", model="pro", quantity=9)) == 16
    assert prices.of(GenerateRequest(prompt="a dog", model="pro", quantity=8)) == 32
    prices.learn(GenerateRequest(prompt="a cat", model="unheard-of"), 2)
    assert prices.of(GenerateRequest(prompt="a dog", model="unheard-of")) == 2
    prices.learn(GenerateRequest(prompt="a cat", model="pro", quantity=9), None)
    assert prices.of(GenerateRequest(prompt="a dog", model="pro", quantity=9)) == 16


def test_an_unknown_price_keeps_no_budget():
    """It can't be promised that it fits; without a limit nothing has to."""
    with pytest.raises(BudgetExceededError, match="isn't known"):
        Budget(100).reserve(0, None)
    Budget(None).reserve(0, None)


def test_what_does_not_fit_reserves_nothing():
    """And says what is left."""
    budget = Budget(10, spent=4)
    budget.reserve(0, 4)
    with pytest.raises(BudgetExceededError, match="costs 3, but the budget of 10 has only 2 left"):
        budget.reserve(1, 3)
    budget.reserve(2, 2)
    assert (budget.spent, budget.reserved) == (4, 6)


def test_a_reservation_is_settled_once():
    """By what was told, else by what was set aside."""
    budget = Budget(10)
    budget.reserve(0, 4)
    budget.settle(0, 3)
    budget.settle(0, 3)
    budget.reserve(1, 2)
    budget.settle(1, None)
    assert (budget.spent, budget.reserved) == (5, 0)


STEPS = st.tuples(st.sampled_from(["reserve", "release", "settle"]), st.integers(0, 5), st.integers(0, 6))


@given(st.integers(0, 20), st.lists(STEPS))
def test_never_exceeded(limit, steps):
    """In whatever order, when the service takes no more than was set aside."""
    budget, costs = Budget(limit), {}
    for step, index, cost in steps:
        if step == "reserve" and index not in costs:
            try:
                budget.reserve(index, cost)
                costs[index] = cost
            except BudgetExceededError:
                assert budget.spent + sum(costs.values()) + cost > limit
        elif step == "release":
            budget.release(index)
            costs.pop(index, None)
        elif step == "settle" and index in costs:
            budget.settle(index, min(cost, costs.pop(index)))
        assert budget.spent + budget.reserved <= limit
        assert budget.reserved == sum(costs.values())
