"""Requests out, answers in: every status and form of body becomes a value or a typed error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from nanobanana_async import GenerateRequest, Generation, RateLimit
from nanobanana_async import _exceptions as errors
from nanobanana_async._answers import CreditsEnvelope, GenerationEnvelope, ModelsEnvelope
from nanobanana_async._models import GenerationStatus
from nanobanana_async._wire import (
    MAX_MESSAGE,
    Response,
    check_submission,
    error_from_response,
    failure_of,
    generate_body,
    read_ended,
    read_json,
    read_model,
    read_submission,
)

SAMPLES = Path(__file__).parent / "samples"
DEEP = b"[" * 100_000
BODIES = {
    "error": b'{"error":"the reason"}',
    "nested error": b'{"error":{"message":"the reason","type":"odd"}}',
    "message": b'{"success":false,"message":"the reason"}',
    "msg": b'{"code":1,"msg":"the reason"}',
    "blank error": b'{"error":" ","message":"the reason"}',
    "plain text": b"the reason",
    "JSON string": b'"the reason"',
    "other JSON": b'{"detail":["the reason"]}',
    "html": b"<html><body>the reason</body></html>",
    "marked": b'\xef\xbb\xbf{"error":"the reason"}',
}


def short(value: object) -> str:
    """A test's id of readable length."""
    return repr(value)[:30]


def sample(name: str) -> Response:
    """A recorded exchange's answer."""
    head, _, body = (SAMPLES / f"{name}.http").read_bytes().partition(b"\n\n")
    status, *headers = head.decode().splitlines()
    return Response(int(status.split()[1]), CIMultiDict(line.split(": ", 1) for line in headers), body)


def answer(status: int = 200, body: Any = b"", **headers: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}), content)


def error_of(response: Response) -> Any:
    return error_from_response(response, what="POST /generate")


# ---- requests -----------------------------------------------------------------------------------------------


def test_a_plain_request_sends_nothing_it_was_not_given() -> None:
    """What stands at the service's default is left to the service."""
    body = generate_body(GenerateRequest(prompt="a cat"), [], "async")
    assert json.loads(body) == {"prompt": "a cat", "mode": "async"}


def test_a_full_request_uses_the_wires_names() -> None:
    """camelCase is the wire's, and a model's & stays one."""
    request = GenerateRequest(prompt="a cat", model="nanobanan2&pro", aspect_ratio="16:9", quantity=4)
    assert json.loads(generate_body(request, ["https://x.test/a.png"], "stream")) == {
        "prompt": "a cat",
        "mode": "stream",
        "selectedModel": "nanobanan2&pro",
        "aspectRatio": "16:9",
        "quantity": 4,
        "referenceImageUrls": ["https://x.test/a.png"],
    }


@given(st.text(min_size=1).filter(str.strip))
@settings(deadline=None, max_examples=50)
def test_any_prompt_arrives_as_it_is(prompt: str) -> None:
    """Quotes, line ends, emoji and control characters included."""
    assert json.loads(generate_body(GenerateRequest(prompt=prompt), [], "sync"))["prompt"] == prompt


# ---- submissions --------------------------------------------------------------------------------------------


def test_an_async_submission_tells_its_id_and_money() -> None:
    """What is recorded before anything else is awaited."""
    told = read_submission(sample("submit_async"))
    assert (told.generation_id, told.credits_used, told.remaining_credits) == ("clx9f2k4d0001", 2, 97)
    assert told.answered_async
    check_submission(told)


def test_a_sync_submission_has_its_images() -> None:
    """Links are taken as they are: a signature must not be re-quoted."""
    told = read_submission(sample("submit_sync"))
    assert told.image_urls == ("https://cdn.nananobanana.com/o/1.png?sig=a%2Fb", "https://cdn.nananobanana.com/o/2.png")
    check_submission(told)


def test_a_safety_block_is_a_rejection_with_its_price() -> None:
    """200, but charged and without images."""
    told = read_submission(sample("submit_rejected"))
    with pytest.raises(errors.ContentRejectedError, match="Content safety check failed") as caught:
        check_submission(told)
    assert (caught.value.generation_id, caught.value.credits_used) == ("clx9f2k4d0003", 1)


def test_a_warning_beside_images_is_no_rejection() -> None:
    """What was paid and delivered is kept."""
    told = read_submission(answer(body={"warning": True, "imageUrls": ["https://x.test/a"], "message": "blurred"}))
    check_submission(told)
    assert not told.rejected


def test_a_submission_that_failed_at_once_is_a_failure() -> None:
    """Neither images nor a generation to wait for."""
    told = read_submission(answer(body={"success": False, "generationId": "clx1", "message": "no capacity"}))
    with pytest.raises(errors.GenerationFailedError, match="generation clx1 failed: no capacity"):
        check_submission(told)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b'"ok"', b"{", b"OK", b"\xff\xfe", b"<html>fine</html>", b'{"success":true}',
        b'{"success":true,"generationId":""}', b'{"success":true,"generationId":null}', DEEP,
        b'{"error":"Internal error"}',
    ],
    ids=short,
)  # fmt: skip
def test_a_200_without_id_or_images_is_unreadable(body: bytes) -> None:
    """It may be paid and running, so it must not pass as accepted, nor as refused."""
    with pytest.raises(errors.ResponseDecodingError):
        read_submission(answer(body=body))


@pytest.mark.parametrize(
    "odd",
    [
        b'"creditsUsed":1e999', b'"creditsUsed":NaN', b'"creditsUsed":"two"', b'"creditsUsed":{}', b'"success":"yes"',
        b'"success":null', b'"warning":null', b'"async":"started"', b'"message":{"a":1}', b'"message":"caf\xe9"',
        b'"message":"half \\ud83d"', b'"imageUrls":null', b'"imageUrls":"none"', b'"imageUrls":[null,1,{}]',
        b'"data":null', b'"data":{"generationId":null}', b'"remainingCredits":-1e400', b'"x":' + b"9" * 5000 + b".5",
    ],
    ids=short,
)  # fmt: skip
def test_an_odd_field_does_not_cost_the_id(odd: bytes) -> None:
    """The id of a paid generation is worth more than the field beside it."""
    told = read_submission(answer(body=b'{"generationId":"clx1","async":true,' + odd + b"}"))
    assert told.generation_id == "clx1"


def test_an_answer_of_the_wrong_content_type_is_read_all_the_same() -> None:
    """JSON under the name of text/html is JSON."""
    told = read_submission(answer(body={"generationId": "clx1"}, Content_Type="text/html"))
    assert told.generation_id == "clx1"


FIELDS = st.sampled_from(
    ["generationId", "id", "imageUrls", "success", "async", "warning", "message", "creditsUsed", "data"]
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(FIELDS, inner),
    max_leaves=12,
)


@given(ANY_JSON)
@settings(deadline=None, max_examples=80)
def test_any_json_is_a_submission_or_unreadable(body: Any) -> None:
    """No third way out: an unexpected exception after a POST would lose a paid generation."""
    try:
        told = read_submission(answer(body=body))
    except errors.ResponseDecodingError:
        return
    assert told.generation_id or told.image_urls or told.rejected


# ---- records ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "urls"),
    [
        ("record_processing", "processing", ()),
        ("record_completed", "completed", ("https://cdn.nananobanana.com/o/1.png",)),
        ("record_single_url", "completed", ("/outputs/4.webp",)),
        ("record_failed", "failed", ()),
        ("record_cut_prompt", "completed", ("https://cdn.nananobanana.com/o/6.png",)),
    ],
)
def test_records_are_read(name: str, status: str, urls: tuple[str, ...]) -> None:
    """One look at a generation, in every state."""
    record = read_model(sample(name), GenerationEnvelope, what="GET /generate").data
    assert (record.status, record.image_urls) == (status, urls)


FIELD = '"processingStatus":"processing"'


@pytest.mark.parametrize(
    ("body", "running"),
    [
        ('{"data":{"id":"clx",' + FIELD + ',"outputImageUrls":null}}', True),
        ('{"data": {"id": "clx", "processingStatus": "processing"}}', True),
        (' {\n"success":true,"data"\n:\n{' + FIELD + "}}", True),
        ('{"data":{"prompt":"}{",' + FIELD + "}}", True),
        ('{"data":{"meta":{},' + FIELD + "}}", True),
        ('{"meta":{},"data":{' + FIELD + "}}", True),
        ('{"data":{"before":{' + FIELD + '},"processingStatus":"completed"}}', False),
        ('{"before":{' + FIELD + '},"data":{"processingStatus":"completed"}}', False),
        ('{"data":{"processingStatus":"completed"},' + FIELD + "}", False),
        ('{"data":{"prompt":' + json.dumps(FIELD) + ',"processingStatus":"completed"}}', False),
    ],
)
def test_what_still_runs_is_told_from_what_has_ended(body: str, running: bool) -> None:
    """With or without a model, whatever else the answer holds."""
    record = read_ended(Response(200, {"Content-Type": "application/json"}, body.encode()), what="GET /generate")
    assert (record is None) == running


def test_half_a_character_in_a_prompt_can_be_stored() -> None:
    """A server that cuts prompts leaves half a surrogate pair, which no file and no terminal takes."""
    record = read_model(sample("record_cut_prompt"), GenerationEnvelope, what="GET /generate").data
    assert record.to_generation("clx").prompt.encode() == b"a cat ?"


def test_models_are_read_row_by_row() -> None:
    """A row that can't be read hides no other; what a row does not tell has a default."""
    models = read_model(sample("models"), ModelsEnvelope, what="GET /models").data
    assert [(model.name, model.credits_cost, model.requires_pro) for model in models] == [
        ("nano-banana", 1, False),
        ("nanobanan2&pro-2k", 8, True),
        ("some-video-model", 1, False),
    ]


def test_the_balance_is_a_whole_number() -> None:
    """Nothing is guessed here: a balance that is not told is an error."""
    assert read_model(sample("credits"), CreditsEnvelope, what="GET /credits").data.credits == 100
    with pytest.raises(errors.ResponseDecodingError, match="GET /credits answered something unreadable"):
        read_model(answer(body={"data": {"credits": None}}), CreditsEnvelope, what="GET /credits")


def test_a_page_in_place_of_json_names_the_likely_cause() -> None:
    """A base URL that leads to the site instead of the API."""
    with pytest.raises(errors.ResponseDecodingError, match="check the base URL"):
        read_model(answer(body=b"\n <!DOCTYPE html>"), CreditsEnvelope, what="GET /credits")


def test_an_error_names_a_page_by_its_title() -> None:
    """Its tags would fill the terminal."""
    page = b"<!DOCTYPE html><html><head><title>Not &amp;\n found</title></head><body>a lot</body></html>"
    assert str(error_of(answer(404, page))).endswith("404: an HTML page, 'Not & found'; check the id and the base URL")


# ---- generations that ended ---------------------------------------------------------------------------------


def generation(**facts: Any) -> Generation:
    return Generation(**{"id": "clx1", "prompt": "a cat", "model": "m", "credits_used": 2, **facts})


def test_a_failed_generation_tells_its_reason_and_price() -> None:
    """Failed generations are not refunded, so the price is part of the news."""
    error = failure_of(generation(status=GenerationStatus.FAILED, error_message="Provider timeout"))
    assert isinstance(error, errors.GenerationFailedError)
    assert (str(error), error.credits_used) == ("generation clx1 failed: Provider timeout", 2)


@pytest.mark.parametrize("reason", ["Content safety check failed", "Blocked by MODERATION", "prohibited content"])
def test_a_failure_that_tells_of_safety_is_a_rejection(reason: str) -> None:
    """A record has no flag for it, only words."""
    error = failure_of(generation(status=GenerationStatus.FAILED, error_message=reason))
    assert isinstance(error, errors.ContentRejectedError)


def test_completed_without_images_is_a_failure() -> None:
    """There is nothing to hand out, but there is an id to look at again."""
    error = failure_of(generation(status=GenerationStatus.COMPLETED))
    assert isinstance(error, errors.GenerationFailedError)
    assert error.generation_id == "clx1"


@pytest.mark.parametrize("status", [GenerationStatus.PROCESSING, GenerationStatus.COMPLETED])
def test_what_runs_or_has_images_is_no_failure(status: GenerationStatus) -> None:
    """Only an end without images is one."""
    assert failure_of(generation(status=status, image_urls=("https://x.test/a",))) is None


# ---- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("400", errors.BadRequestError),
        ("401", errors.AuthenticationError),
        ("402", errors.InsufficientCreditsError),
        ("403", errors.PermissionDeniedError),
        ("413", errors.PayloadTooLargeError),
        ("429", errors.RateLimitError),
        ("502_proxy", errors.ServerError),
        ("503_busy", errors.ServerBusyError),
        ("503_proxy", errors.ServerError),
        ("403_wall", errors.BlockedError),
        ("503_wall", errors.BlockedError),
    ],
)
def test_recorded_errors_have_their_class(name: str, cls: type[errors.APIStatusError]) -> None:
    """The class says what it means for money and for a retry."""
    error = error_of(sample(name))
    assert type(error) is cls
    assert error.status_code == int(name[:3])


@pytest.mark.parametrize("form", BODIES)
@pytest.mark.parametrize("status", [400, 401, 402, 404, 409, 413, 429, 500, 502, 504, 520, 599])
def test_the_servers_reason_is_told_whatever_its_form(status: int, form: str) -> None:
    """Every status with every form of body that live callers have met."""
    error = error_of(answer(status, BODIES[form]))
    assert error.status_code == status
    assert f"POST /generate answered {status}: " in str(error)
    assert "the reason" in str(error)


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
@pytest.mark.parametrize("body", [b"", b"\xff\xfe\0", DEEP, b"{", b'{"error":{}}', b'{"error":[1]}', b"0"], ids=short)
def test_a_body_that_tells_nothing_is_no_obstacle(status: int, body: bytes) -> None:
    """The status alone makes the error."""
    assert error_of(answer(status, body)).status_code == status


def test_both_reasons_of_a_body_are_told() -> None:
    """`error` is often only the status in words; what helps stands in `message`."""
    error = error_of(answer(400, {"error": "Bad Request", "message": "aspectRatio 2:1 is not supported"}))
    assert "Bad Request: aspectRatio 2:1 is not supported; check the parameters" in str(error)


def test_a_huge_body_makes_a_short_message() -> None:
    """An error repeats the beginning only, on one line, and nothing a terminal would obey."""
    error = error_of(answer(500, b"\x1b[31mline\n\n" + b"x" * 5_000_000))
    assert len(str(error)) < MAX_MESSAGE + 100
    assert "[31mline xxx" in str(error)
    assert str(error).isprintable()


def test_an_error_that_tells_of_a_generation_keeps_its_id() -> None:
    """A 500 after the submission was taken may name what was paid."""
    error = error_of(answer(500, {"error": "late", "generationId": "clx1", "creditsUsed": 2, "id": "req_1"}))
    assert (error.generation_id, error.credits_used) == ("clx1", 2)


def test_a_redirect_says_where_to_and_keeps_its_query_secret() -> None:
    """It is not followed: the key must not cross to another origin."""
    error = error_of(answer(308, Location="https://other.test/api/v1/generate?token=secret"))
    assert "https://other.test/api/v1/generate; set base_url" in str(error)
    assert not error.retryable


@pytest.mark.parametrize(
    ("headers", "body", "numbers"),
    [
        ({}, {"error": "x"}, (None, None, None)),
        ({}, {"error": "x", "limit": 5, "active": 4}, (5, 4, None)),
        ({}, {"error": {"message": "x", "limit": "5", "active": "0"}}, (5, 0, None)),
        ({"X_RateLimit_Limit": "3", "X_RateLimit_Active": "2", "Retry_After": "1.5"}, {}, (3, 2, 1.5)),
        ({"X_RateLimit_Limit": "3", "X_RateLimit_Active": "0"}, {"limit": 9, "active": 9}, (3, 0, None)),
        ({"X_RateLimit_Limit": "0", "X_RateLimit_Active": "-1"}, {"limit": 2, "active": 1}, (2, 1, None)),
        ({"X_RateLimit_Limit": "many", "Retry_After": "later"}, {"limit": [], "active": {}}, (None, None, None)),
    ],
)
def test_a_429_tells_its_numbers_from_headers_or_body(headers: Any, body: Any, numbers: Any) -> None:
    """Headers first; nonsense counts as absent; zero active is a number."""
    error = error_of(answer(429, body, **headers))
    assert (error.limit, error.active, error.retry_after) == numbers


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"NaN", b"Infinity", b"true", b"null", b'"\\ud800"'])
def test_impossible_numbers_are_no_numbers(number: bytes) -> None:
    """JSON as Python reads it knows infinities; no limit is one."""
    error = error_of(answer(429, b'{"error":"x","limit":' + number + b',"active":' + number + b"}"))
    assert error.limit in (None, 1)  # true is 1


def test_busy_is_only_what_the_api_itself_says() -> None:
    """A 503 of the API is refunded; that of a proxy that lost the API's answer may stand for a paid generation."""
    assert error_of(sample("503_busy")).active_tasks == 10
    for body in (b"", b"no healthy upstream", b"<html>503</html>", b"[]", b"{}"):
        assert isinstance(error_of(answer(503, body)), errors.ServerError)


def test_a_wall_is_told_from_the_apis_own_403() -> None:
    """One wants another user agent, the other API access."""
    assert "user_agent" in str(error_of(sample("403_wall")))
    assert "enable API access" in str(error_of(sample("403")))
    odd = answer(403, {"error": "not enabled"}, Content_Type="text/html")
    assert isinstance(error_of(odd), errors.PermissionDeniedError)


def test_rate_limit_headers_are_read_without_regard_to_case() -> None:
    """HTTP/2 proxies write them in small letters."""
    headers = CIMultiDict({"x-ratelimit-limit": "5", "X-RATELIMIT-ACTIVE": "4"})
    assert RateLimit.from_headers(headers) == RateLimit(limit=5, active=4)


@given(st.integers(300, 599), st.binary(max_size=60), st.sampled_from(["", "text/html", "application/json"]))
@settings(deadline=None, max_examples=80)
def test_any_answer_but_2xx_is_a_typed_error(status: int, body: bytes, content_type: str) -> None:
    """Whatever a server or a box in between sends."""
    error = error_of(answer(status, body, Content_Type=content_type))
    assert isinstance(error, errors.APIStatusError)
    assert error.status_code == status


def test_json_nested_without_end_is_a_value_error() -> None:
    """Python's own answer is a RecursionError, which nobody expects of an answer."""
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(DEEP)
