"""The error tree: what is drawn is what is there, and every error survives a process boundary."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest

import nanobanana_async
from nanobanana_async import _exceptions
from nanobanana_async._exceptions import (
    APIStatusError,
    GenerationTimeoutError,
    InputError,
    NanoBananaError,
    RateLimitError,
    RequestTimeoutError,
    StreamInterruptedError,
    SubmissionUncertainError,
)

Drawing = dict[str, tuple[str, str]]


def tree(root: type[NanoBananaError] = NanoBananaError) -> list[type[NanoBananaError]]:
    """Every class of ours below `root`, itself included."""
    found = [root]
    for child in root.__subclasses__():
        found += [cls for cls in tree(child) if cls not in found]
    return [cls for cls in found if cls.__module__ == _exceptions.__name__]


def read_drawing() -> Drawing:
    """Name → (parent, second base) as the module's docstring draws them."""
    drawn: Drawing = {}
    path = ["NanoBananaError"]
    for line in (_exceptions.__doc__ or "").splitlines():
        found = re.match(r"^([│ ]*)[├└]── (\w+)(?:\((\w+)\))?", line)
        if found:
            depth = len(found[1]) // 4 + 1
            del path[depth:]
            drawn[found[2]] = (path[-1], found[3] or "")
            path.append(found[2])
    return drawn


def make(cls: type[NanoBananaError], **facts: Any) -> NanoBananaError:
    if issubclass(cls, APIStatusError):
        facts.setdefault("status_code", 418)
    return cls("what happened", **facts)


def test_the_drawn_tree_is_the_real_one() -> None:
    """Every class is drawn under its first base, with the builtin it also is."""
    drawn = read_drawing()
    real = {
        cls.__name__: (
            cls.__bases__[0].__name__,
            next((base.__name__ for base in cls.__bases__ if base.__module__ == "builtins"), ""),
        )
        for cls in tree()[1:]
    }
    assert drawn == real


def test_all_errors_are_public() -> None:
    """Whatever may be raised may be caught by its name."""
    assert {cls.__name__ for cls in tree()} <= set(nanobanana_async.__all__)


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
def test_every_error_pickles_with_all_it_knows(cls: type[NanoBananaError]) -> None:
    """A worker process may hand its error to another one."""
    error = make(cls)
    error.retry_after, error.generation_id, error.credits_used = 1.5, "clx1", 3
    error.add_note("seen in a worker")
    read = pickle.loads(pickle.dumps(error))
    assert type(read) is cls
    assert read.__dict__ == error.__dict__
    assert (str(read), read.args) == ("what happened", ("what happened",))


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
def test_every_error_can_be_copied(cls: type[NanoBananaError]) -> None:
    """The scheduler tells the waiting jobs of one job's refusal with copies."""
    error = make(cls)
    copied = copy.copy(error)
    copied.generation_id = "other"
    assert type(copied) is cls
    assert error.generation_id is None


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
def test_every_error_carries_what_a_retry_decision_needs(cls: type[NanoBananaError]) -> None:
    """`retryable` and `retry_after` are there on all of them, and so are the id and the credits."""
    error = make(cls)
    assert isinstance(error.retryable, bool)
    assert (error.retry_after, error.generation_id, error.credits_used) == (None, None, None)


@pytest.mark.parametrize("cls", [SubmissionUncertainError, StreamInterruptedError])
def test_what_may_be_paid_is_never_retryable(cls: type[NanoBananaError]) -> None:
    """To send it again may pay twice."""
    assert not make(cls).retryable


@pytest.mark.parametrize("cls", [RequestTimeoutError, GenerationTimeoutError])
def test_timeouts_are_builtin_timeouts(cls: type[NanoBananaError]) -> None:
    """Code that knows nothing of this library catches them as TimeoutError."""
    with pytest.raises(TimeoutError, match="what happened"):
        raise make(cls)


def test_a_refusal_tells_its_numbers() -> None:
    """A 429 says how many may run and how many do."""
    error = RateLimitError("slow down", limit=5, active=5, retry_after=2.0)
    assert (error.status_code, error.limit, error.active, error.retry_after) == (429, 5, 5, 2.0)


def test_an_input_error_tells_its_place() -> None:
    """A line of a batch can be found again."""
    error = pickle.loads(pickle.dumps(InputError("no prompt", source="in.csv", line=7, column="prompt")))
    assert (error.source, error.line, error.column) == ("in.csv", 7, "prompt")
    assert isinstance(error, ValueError)
