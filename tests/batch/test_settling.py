"""What a balance proves, and when it proves nothing."""

from __future__ import annotations

import pytest

from nanobanana_async.batch._settling import Account, Verdict, settle


@pytest.mark.parametrize(
    ("expected", "actual", "costs", "verdict"),
    [
        (10, 10, [2], Verdict.NOT_TAKEN),
        (10, 8, [2], Verdict.TAKEN),
        (10, 9, [2], Verdict.UNKNOWN),
        (10, 12, [2], Verdict.UNKNOWN),
        (None, 10, [2], Verdict.UNKNOWN),
        (10, 10, [None], Verdict.NOT_TAKEN),
        (10, 8, [None], Verdict.UNKNOWN),
        (10, 7, [2, 1], Verdict.TAKEN),
        (10, 8, [2, 2], Verdict.UNKNOWN),  # one of the two, and nobody knows which
        (10, 8, [2, None], Verdict.UNKNOWN),
    ],
)
def test_only_the_exact_difference_is_a_proof(expected, actual, costs, verdict):
    """Nothing missing: not taken. Exactly the cost missing: taken. Anything else is left in doubt."""
    assert settle(expected, actual, costs) is verdict


def test_the_balance_follows_what_is_told():
    """An answer's remaining credits, or else its price."""
    account = Account(10)
    account.spent(2, 8)
    assert account.balance == 8
    account.spent(3, None)
    assert account.balance == 5
    account.spent(None, 4)
    assert account.balance == 4
    account.spent(None, None)
    assert account.balance is None
    assert account.judge(4, [1]) is Verdict.UNKNOWN
    assert (account.taken, account.shared) == (4, False)


def test_an_account_that_others_move_is_no_witness_for_a_while():
    """Their next move may look like ours: then neither verdict is safe."""
    now = 0.0
    account = Account(10, shared_memory=60, clock=lambda: now)
    assert account.spent(1, 9) == 0
    assert account.spent(1, 5) == 3
    assert account.judge(5, [1]) is Verdict.UNKNOWN
    assert account.judge(4, [1]) is Verdict.UNKNOWN
    now = 61.0
    assert account.judge(5, [1]) is Verdict.NOT_TAKEN
    assert account.judge(4, [1]) is Verdict.TAKEN


def test_what_is_missing_may_be_what_was_judged_as_not_taken():
    """One of them, or all; each once, and not for ever."""
    now = 0.0
    account = Account(10, shared_memory=60, clock=lambda: now)
    for cost in (1, 1, 3, None):
        account.not_taken(cost)
    assert [account.is_late(missing) for missing in (2, -1, 0, 1, 1, 4, 3, 3)] == 3 * [False] + [
        True,
        True,
        False,
        True,
        False,
    ]
    account.not_taken(1)
    account.not_taken(1)
    assert account.is_late(2)
    account.not_taken(1)
    now = 61.0
    assert not account.is_late(1)


def test_that_others_moved_it_is_remembered():
    """A next run knows it from the journal."""
    account = Account(10, shared_memory=60, shared_at=5.0, clock=lambda: 30.0)
    assert account.judge(10, [1]) is Verdict.UNKNOWN
