"""Whom a refusal concerns: a table, and that a 402 never speaks for what may be cheaper."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobanana_async import (
    AuthenticationError,
    BadRequestError,
    BlockedError,
    GenerateRequest,
    InsufficientCreditsError,
    NanoBananaError,
    PermissionDeniedError,
)
from nanobanana_async._concern import concerns


def request(model: str | None = None, quantity: int = 1, references: int = 0) -> GenerateRequest:
    images = tuple(f"https://example.com/{number}.png" for number in range(references))
    return GenerateRequest(prompt="a cat", model=model, quantity=quantity, reference_images=images)


def passing() -> BlockedError:
    error = BlockedError("a wall", status_code=403)
    error.passing = True
    return error


KEY = AuthenticationError("no", status_code=401)
CREDITS = InsufficientCreditsError("no", status_code=402)
ACCESS = PermissionDeniedError("no", status_code=403)
WALL = BlockedError("a wall", status_code=403)
ONE, FOUR, PRO = request(), request(quantity=4), request("pro", quantity=4)


@pytest.mark.parametrize(
    ("error", "refused", "waiting", "expected"),
    [
        (KEY, ONE, PRO, True),
        (WALL, ONE, PRO, True),
        (passing(), ONE, ONE, False),
        (BadRequestError("no", status_code=400), ONE, ONE, False),
        (ACCESS, PRO, ONE, False),
        (ACCESS, PRO, request("pro"), True),
        (ACCESS, ONE, request("nano-banana"), True),
        (CREDITS, ONE, request("nano-banana"), True),
        (CREDITS, ONE, FOUR, True),
        (CREDITS, FOUR, ONE, False),
        (CREDITS, ONE, PRO, False),
        (CREDITS, request(references=2), request(references=3), True),
        (CREDITS, request(references=1), request(references=0), True),
        (CREDITS, request(references=3), request(references=2), False),
        (CREDITS, request(references=3), request(quantity=2), False),
    ],
)
def test_whom_it_concerns(
    error: NanoBananaError, refused: GenerateRequest, waiting: GenerateRequest, expected: bool
) -> None:
    """Everybody, those of the model, those at least as dear, or nobody else."""
    assert concerns(error, refused, waiting) is expected


requests = st.builds(request, quantity=st.integers(1, 9), references=st.integers(0, 9))


@given(refused=requests, waiting=requests, price=st.integers(0, 20), maximum=st.integers(1, 9))
def test_whoever_is_failed_for_credits_could_not_have_paid(
    refused: GenerateRequest, waiting: GenerateRequest, price: int, maximum: int
) -> None:
    """Whatever the model costs, and whatever number of images the service cuts a request to."""

    def cost(request: GenerateRequest) -> int:
        return min(request.quantity, maximum) * (price + max(0, len(request.reference_images) - 1))

    if concerns(CREDITS, refused, waiting):
        assert cost(waiting) >= cost(refused)
