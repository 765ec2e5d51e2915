"""The table of problems: whole, in order, and telling callers nothing that is not theirs."""

from __future__ import annotations

import aiohttp
import pytest
from fastapi import FastAPI
from web import served

from nanobanana_async import (
    APIStatusError,
    AuthenticationError,
    ConfigurationError,
    ContentRejectedError,
    GenerationFailedError,
    GenerationTimeoutError,
    InsufficientCreditsError,
    InvalidRequestError,
    NanoBananaError,
    QueueFullError,
    RateLimitError,
    ServerBusyError,
    SubmissionUncertainError,
)
from nanobanana_async.integrations.fastapi import add_error_handlers, problem_of
from nanobanana_async.integrations.fastapi._errors import TABLE

SECRET = "nb_something-of-the-account"
OURS = (400, 402, 404, 409, 410, 413, 422, 429, 500, 502, 503, 504)


def tree(root=NanoBananaError):
    yield root
    for cls in root.__subclasses__():
        yield from tree(cls)


def make(cls, message=SECRET, **facts):
    if issubclass(cls, APIStatusError):
        facts.setdefault("status_code", 418)
    return cls(message, **facts)


def test_every_error_has_a_line_of_its_own():
    """A new one can't be forgotten, and none that has gone is kept."""
    assert set(TABLE) == {cls for cls in tree() if cls.__module__ == NanoBananaError.__module__}


@pytest.mark.parametrize("cls", TABLE, ids=lambda cls: cls.__name__)
def test_every_line_makes_a_problem(cls):
    told = problem_of(make(cls))
    assert told.status in OURS
    assert told.title
    assert told.detail
    assert (told.retry_after is not None) == (told.status in (429, 503) and cls.retryable)


@pytest.mark.parametrize("cls", [cls for cls in TABLE if TABLE[cls].detail is not None], ids=lambda cls: cls.__name__)
def test_what_is_not_the_callers_is_not_told(cls):
    """Account, key, network, disk: the error's own words stay here."""
    assert SECRET not in problem_of(make(cls)).model_dump_json()


def test_what_is_told_is_about_the_callers_own_request():
    told = {cls.__name__ for cls, row in TABLE.items() if row.detail is None}
    expected = "InvalidRequestError QueueFullError BadRequestError GenerationFailedError ContentRejectedError"
    assert told == set(expected.split())


def test_a_subclass_that_the_table_does_not_know_is_told_as_its_parent():
    class OddError(ContentRejectedError):
        pass

    assert problem_of(OddError("no")).status == 422


@pytest.mark.parametrize(
    ("error", "status", "facts"),
    [
        (QueueFullError("full", expected_wait=12.2), 429, {"retry_after": 13, "paid": "no"}),
        (QueueFullError("full"), 429, {"retry_after": 5}),
        (RateLimitError("no", retry_after=0.2), 429, {"retry_after": 1}),
        (ServerBusyError("busy", retry_after=3), 503, {"retry_after": 3, "paid": "no"}),
        (InsufficientCreditsError("no", status_code=402), 402, {"paid": "no"}),
        (InvalidRequestError("the prompt is blank"), 422, {"detail": "the prompt is blank", "paid": "no"}),
        (
            GenerationFailedError("x", generation_id="clx9", credits_used=2),
            502,
            {"generation_id": "clx9", "paid": "yes"},
        ),
        (GenerationTimeoutError("x", generation_id="clx9"), 504, {"generation_id": "clx9", "paid": "yes"}),
        (SubmissionUncertainError("x"), 502, {"paid": "maybe"}),
        (AuthenticationError("x", status_code=401), 503, {"paid": "no"}),
        (ConfigurationError("x"), 503, {"paid": "no"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_facts_of_a_problem(error, status, facts):
    told = problem_of(error).model_dump()
    assert told["status"] == status
    assert {name: told[name] for name in facts} == facts


async def test_a_handler_may_raise_any_of_them():
    """They are answered as problem details, with Retry-After, and not kept by anyone."""
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/full")
    async def full():
        raise QueueFullError("9 jobs wait already", expected_wait=7)

    async with served(app) as url, aiohttp.ClientSession() as session, session.get(f"{url}/full") as answer:
        assert answer.status == 429
        assert answer.content_type == "application/problem+json"
        assert (answer.headers["Retry-After"], answer.headers["Cache-Control"]) == ("7", "no-store")
        told = await answer.json(content_type=None)
        assert told["type"] == "urn:nanobanana:queue-full"
        assert told["detail"] == "9 jobs wait already"
