"""What holds a slot: what proves it, and what only seems to."""

from __future__ import annotations

from nanobanana_async._scope import CONTRADICTIONS, ScopeJudge


def test_a_refused_look_is_request_scope() -> None:
    """Generation scope never refuses a look."""
    judge = ScopeJudge()
    judge.look_refused()
    assert judge.scope == "request"


def test_a_running_generation_that_is_not_counted_is_request_scope_when_seen_twice() -> None:
    """Once may be an end between the record and the header."""
    judge, seen = ScopeJudge(), []
    for active in (0, 1, 0, None, 0):
        judge.seen_running(active)
        seen.append(judge.scope)
    assert seen == [None, None, None, None, "request"]


def test_refusals_in_a_row_with_nothing_open_contradict_request_scope() -> None:
    """An acceptance in between says that they were collisions with somebody else."""
    judge = ScopeJudge()
    judge.look_refused()
    judge.submission_refused(alone=False)
    for _ in range(2):
        for _ in range(CONTRADICTIONS - 1):
            judge.submission_refused(alone=True)
        judge.submission_accepted()
    assert judge.scope == "request"
    for _ in range(CONTRADICTIONS):
        judge.submission_refused(alone=True)
    assert judge.scope is None


def test_what_the_user_set_is_never_judged() -> None:
    """Whatever the answers seem to show."""
    judge = ScopeJudge("generation")
    judge.look_refused()
    assert judge.scope == "generation"
