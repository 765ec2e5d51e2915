"""The event stream: progress, heartbeats, and its ends."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from calling import Caller, Open

from nanobanana_async.emulator import Fault, FaultPlan


async def stream(caller: Caller, prompt: str = "a cat", *, enough: int | None = None) -> list[dict[str, Any]]:
    """Every event of one stream that is JSON; the generation ends with the first so many, or by itself."""
    body, told = {"prompt": prompt, "mode": "stream"}, []
    async with caller.session.post(f"{caller.emulator.url}/generate", json=body) as response:
        assert response.content_type == "text/event-stream"
        async for line in response.content:
            if line.startswith(b'data: {"'):
                told.append(json.loads(line[6:]))
                if len(told) == enough:
                    caller.emulator.finish()
    return told


async def test_progress_rises_between_heartbeats(calling: Open) -> None:
    """Apart from the heartbeats' zeros, that is."""
    async with calling(duration=2.0, sigma=0) as caller:
        told = [event["progress"] for event in (await stream(caller, enough=2))[:-1]]
        assert told[:2] == [5, 20]
        assert told == sorted(told)


async def test_heartbeats_tell_zero(calling: Open) -> None:
    """So that raw progress goes backwards, as on the live service."""
    async with calling(duration=math.inf, heartbeat=0.01) as caller:
        told = await stream(caller, enough=5)
        beats = [event for event in told[:-1] if event["message"] == "Processing..."]
        assert len(beats) >= 4
        assert {beat["progress"] for beat in beats} == {0}


@pytest.mark.parametrize("stream_ids", [True, False])
async def test_the_id_is_told_only_if_asked_to(calling: Open, stream_ids: bool) -> None:
    """The live service does not promise it."""
    async with calling(stream_ids=stream_ids) as caller:
        for event in await stream(caller):
            assert ("generationId" in event.get("data", {})) is stream_ids


async def test_an_unsafe_prompt_completes_without_success(calling: Open) -> None:
    """A warning in `complete`, no image."""
    async with calling() as caller:
        data = (await stream(caller, "[unsafe]"))[-1]["data"]
        assert (data["success"], data["warning"], data["message"]) == (False, True, "Content safety check failed")


async def test_a_failed_generation_ends_in_an_error_event(calling: Open) -> None:
    """With its reason in both places."""
    async with calling() as caller:
        last = (await stream(caller, "[fail]"))[-1]
        assert (last["type"], last["data"]["success"]) == ("error", False)
        assert last["message"] == last["data"]["error"]


async def test_a_stream_can_end_before_its_last_event(calling: Open) -> None:
    """`truncate` closes it cleanly; the generation runs on."""
    async with calling(duration=math.inf, faults=FaultPlan(Fault("stream", "truncate"))) as caller:
        assert [event["type"] for event in await stream(caller)] == ["status"]
        assert caller.emulator.ledger.active == 1


async def test_a_stream_can_tell_an_error_of_the_servers_own(calling: Open) -> None:
    """Which says nothing of the generation."""
    async with calling(duration=math.inf, faults=FaultPlan(Fault("stream", "error_500"))) as caller:
        assert (await stream(caller))[-1]["type"] == "error"
        assert caller.emulator.ledger.active == 1


async def test_garbage_between_events_does_not_end_it(calling: Open) -> None:
    """Comments, words and broken JSON, then the rest as usual."""
    async with calling(faults=FaultPlan(Fault("stream", "garbage_200"))) as caller:
        assert (await stream(caller))[-1]["type"] == "complete"
