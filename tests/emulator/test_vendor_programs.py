"""Programs as the vendor's samples write them: plain `requests`, only the base URL changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import requests
from patience import PATIENCE

from nanobanana_async.emulator import ThreadedEmulator

Threaded = Callable[..., ThreadedEmulator]
HEADERS = {"Authorization": "Bearer nb_vendor", "Content-Type": "application/json"}


def generate(base: str, **body: Any) -> requests.Response:
    """The samples' call."""
    return requests.post(
        f"{base}/generate", headers=HEADERS, json=body, timeout=PATIENCE, stream=body.get("mode") == "stream"
    )


def events(response: requests.Response) -> Iterator[dict[str, Any]]:
    """The samples' way through a stream: lines that begin with `data: `, the rest ignored."""
    for line in response.iter_lines():
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def test_a_sync_program_gets_its_picture(threaded: Threaded) -> None:
    """One call, one answer, and the URL needs no key."""
    told = generate(threaded().url, prompt="a cat", selectedModel="nano-banana").json()
    assert told["success"] is True
    assert (told["creditsUsed"], told["remainingCredits"]) == (1, 999)
    picture = requests.get(told["imageUrls"][0], timeout=PATIENCE)
    assert picture.headers["Content-Type"].startswith("image/")


def test_an_async_program_polls_until_completed(threaded: Threaded) -> None:
    """Submit, then poll by id, at most sixty times."""
    base = threaded().url
    started = generate(base, prompt="a fox", mode="async").json()
    assert started["async"] is True
    for _ in range(60):
        response = requests.get(
            f"{base}/generate", params={"id": started["generationId"]}, headers=HEADERS, timeout=PATIENCE
        )
        record = response.json()["data"]
        if record["processingStatus"] == "completed":
            break
        assert record["outputImageUrls"] is None
        time.sleep(0.005)
    assert len(record["outputImageUrls"]) == 1
    assert (record["prompt"], record["modelUsed"], record["creditsUsed"]) == ("a fox", "nano-banana", 1)


def test_a_streaming_program_reads_lines_until_complete(threaded: Threaded) -> None:
    """Status events first, then one `complete`, after which the server closes."""
    with generate(threaded().url, prompt="a city", mode="stream") as response:
        told = list(events(response))
    assert response.headers["Content-Type"] == "text/event-stream"
    assert {event["type"] for event in told[:-1]} == {"status"}
    assert told[-1]["type"] == "complete"
    assert told[-1]["data"]["success"] is True
    assert len(told[-1]["data"]["imageUrls"]) == 1


def test_credits_are_told(threaded: Threaded) -> None:
    """The balance falls with each submission."""
    base = threaded(credits=10).url
    generate(base, prompt="two of them", quantity=2)
    response = requests.get(f"{base}/credits", headers=HEADERS, timeout=PATIENCE)
    assert response.json() == {"data": {"credits": 8}}


def test_models_need_no_key(threaded: Threaded) -> None:
    """The one call without a key."""
    models = requests.get(f"{threaded().url}/models", timeout=PATIENCE).json()["data"]
    named = {model["name"]: model for model in models}
    assert named["nano-banana"]["creditsCost"] == 1
    assert set(named["nanobanan2&pro"]) == {
        "name",
        "displayName",
        "creditsCost",
        "supportsImageInput",
        "supportsAspectRatio",
        "requiresPro",
    }
