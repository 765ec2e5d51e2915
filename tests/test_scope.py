"""What holds a slot: what proves it, and what only seems to."""

from __future__ import annotations

import pytest

from nanobanana_async._scope import CONTRADICTIONS, SUSPICIONS, ScopeJudge


def test_a_refused_look_is_request_scope() -> None:
    """Generation scope never refuses a look."""
    judge = ScopeJudge()
    judge.look_refused()
    assert judge.scope == "request"


def test_a_running_generation_that_is_not_counted_is_request_scope_when_seen_twice() -> None:
    """Once may be an end between the record and the header."""
    judge, seen = ScopeJudge(), []
    for active in (0, 1, 0, None, 0):
        judge.seen_running(active, open_requests=1)
        seen.append(judge.scope)
    assert seen == [None, None, None, None, "request"]


def test_refusals_in_a_row_with_nothing_open_contradict_request_scope() -> None:
    """An acceptance in between says that they were collisions with somebody else."""
    judge = ScopeJudge()
    judge.look_refused()
    judge.submission_refused(alone=False, running=1)
    for _ in range(2):
        for _ in range(CONTRADICTIONS - 1):
            judge.submission_refused(alone=True, running=1)
        judge.submission_accepted()
    assert judge.scope == "request"
    for _ in range(CONTRADICTIONS):
        judge.submission_refused(alone=True, running=1)
    assert judge.scope is None


def test_more_active_than_we_have_requests_open_is_generation_scope_when_seen_twice() -> None:
    """Once may be somebody else's request; one active may be the look itself."""
    judge, seen = ScopeJudge(), []
    for active in (1, 3, 1, 3):
        judge.seen_running(active, open_requests=1)
        seen.append(judge.scope)
    assert seen == [None, None, None, "generation"]


def test_looks_that_count_none_of_the_others_make_request_scope_likely_once() -> None:
    """So many in a row; one that counts more than the open requests begins anew, one that could not tell is skipped."""
    judge = ScopeJudge()
    assert not any(judge.grown_suspicious(1, open_requests=1, seen=2) for _ in range(SUSPICIONS - 1))
    assert not judge.grown_suspicious(2, open_requests=1, seen=2)
    for active, seen in ((1, 2), (1, 1), (None, 2), (1, 2), (1, 2)):
        assert not judge.grown_suspicious(active, open_requests=1, seen=seen)
    assert judge.grown_suspicious(1, open_requests=1, seen=2)
    assert not judge.grown_suspicious(1, open_requests=1, seen=2)
    assert judge.scope is None


@pytest.mark.parametrize(("alone", "running", "scope"), [(True, 1, "generation"), (False, 1, None), (True, 0, None)])
def test_a_submission_refused_alone_while_some_run_is_generation_scope(
    alone: bool, running: int, scope: str | None
) -> None:
    """A look open beside it may have held the slot; and with nothing running it was somebody else's."""
    judge = ScopeJudge()
    judge.submission_refused(alone=alone, running=running)
    assert judge.scope == scope


def test_a_refused_look_overturns_generation_scope() -> None:
    """Whatever seemed to prove it was somebody else's doing."""
    judge = ScopeJudge()
    judge.submission_refused(alone=True, running=1)
    judge.look_refused()
    assert judge.scope == "request"


def test_more_running_than_the_limit_is_request_scope_unless_the_other_was_proved() -> None:
    """Then the limit was raised, and nobody has told."""
    unknown, known = ScopeJudge(), ScopeJudge("generation")
    unknown.seen_beyond_limit()
    known.seen_beyond_limit()
    assert (unknown.scope, known.scope) == ("request", "generation")


def test_what_the_user_set_is_never_judged() -> None:
    """Whatever the answers seem to show."""
    judge = ScopeJudge("generation", set_by_user=True)
    judge.look_refused()
    assert judge.scope == "generation"
