"""Each fault at the place it names, as the client's socket sees it, and what it does to the balance."""

from __future__ import annotations

import asyncio
import json
import math
import random
from typing import Any

import aiohttp
import pytest
from calling import Open

from nanobanana_async.emulator import Fault, FaultPlan

LOST = (aiohttp.ClientError, json.JSONDecodeError)


@pytest.mark.parametrize("kind", ["reset_before", "html_wall", "error_500", "refuse"])
async def test_faults_ahead_of_acceptance_cost_nothing(calling: Open, kind: Any) -> None:
    """Nothing runs, nothing is paid."""
    async with calling(faults=FaultPlan(Fault("submit", kind))) as caller:
        try:
            assert (await caller.post())[0] in (429, 500)
        except aiohttp.ClientError:
            assert kind in ("reset_before", "html_wall")
        assert caller.emulator.ledger.charges == 0
        assert caller.emulator.faults.fired == {f"submit:{kind}": 1}


@pytest.mark.parametrize("kind", ["reset_after", "garbage_200", "truncate"])
async def test_faults_after_acceptance_lose_a_paid_answer(calling: Open, kind: Any) -> None:
    """It is charged and running, and the client does not know the id."""
    async with calling(faults=FaultPlan(Fault("submit", kind)), duration=math.inf) as caller:
        with pytest.raises(LOST):
            await caller.post("lost")
        assert caller.emulator.ledger.charged_prompts() == ["lost"]
        assert caller.emulator.ledger.active == 1


async def test_a_reset_is_a_reset(calling: Open) -> None:
    """RST, not an orderly FIN."""
    async with calling(faults=FaultPlan(Fault("submit", "reset_after"))) as caller:
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await caller.post()
        assert isinstance(caught.value, ConnectionResetError) or caught.value.errno == 104


async def test_a_late_one_is_charged_when_its_client_has_long_gone(calling: Open) -> None:
    """Not before `stall_seconds`, and it runs like any other."""
    late = Fault("submit", "reset_late", stall_seconds=0.5)
    async with calling(faults=FaultPlan(late), duration=math.inf) as caller:
        with pytest.raises(LOST):
            await caller.post("late")
        assert caller.emulator.ledger.charges == 0
        await caller.emulator.until(lambda: caller.emulator.ledger.active == 1)
        assert caller.emulator.ledger.charged_prompts() == ["late"]


async def test_a_stalled_submission_runs_on_when_its_client_leaves(calling: Open) -> None:
    """Accepted, never answered."""
    async with calling(faults=FaultPlan(Fault("submit", "stall")), duration=math.inf) as caller:
        ledger = caller.emulator.ledger
        post = asyncio.create_task(caller.post())
        await caller.emulator.until(lambda: ledger.active == 1)
        post.cancel()
        await caller.emulator.until(lambda: ledger.open_requests == 0)
        assert ledger.active == 1


async def test_a_short_stall_answers_after_all(calling: Open) -> None:
    """After `stall_seconds`."""
    async with calling(faults=FaultPlan(Fault("submit", "stall", stall_seconds=0.01))) as caller:
        assert (await caller.post())[0] == 200


async def test_a_forced_busy_is_refunded(calling: Open) -> None:
    """Like a real one."""
    async with calling(faults=FaultPlan(Fault("submit", "busy"))) as caller:
        assert (await caller.post())[0] == 503
        assert caller.emulator.ledger.credits_refunded == 1
        assert caller.emulator.account("nb_test").credits == 1000


async def test_a_500_can_hide_a_paid_generation(calling: Open) -> None:
    """`error_500_after`: the client cannot tell it from the free one."""
    async with calling(faults=FaultPlan(Fault("submit", "error_500_after"))) as caller:
        assert await caller.post() == (500, {"error": "Internal server error"})
        assert caller.emulator.ledger.charges == 1


async def test_a_generation_can_be_made_to_fail(calling: Open) -> None:
    """Chosen by its prompt."""
    plan = FaultPlan(Fault("submit", "fail_generation", prompt="dog"))
    async with calling(faults=plan, limit=None) as caller:
        await caller.post("a cat")
        await caller.post("a dog")
        await caller.emulator.idle()
        assert [entry.state for entry in caller.emulator.ledger.entries] == ["completed", "failed"]


@pytest.mark.parametrize(("kind", "status"), [("refuse", 429), ("busy", 503), ("error_500", 500), ("expire", 404)])
async def test_a_poll_can_fail(calling: Open, kind: Any, status: int) -> None:
    """Once, and then be answered."""
    async with calling(faults=FaultPlan(Fault("poll", kind, times=1))) as caller:
        _, told = await caller.post()
        assert (await caller.get("generate", id=told["generationId"]))[0] == status
        assert (await caller.get("generate", id=told["generationId"]))[0] == 200


@pytest.mark.parametrize(("stage", "path"), [("models", "models"), ("credits", "credits")])
async def test_the_small_calls_can_fail(calling: Open, stage: Any, path: str) -> None:
    """After as many good answers as `after` says."""
    async with calling(faults=FaultPlan(Fault(stage, "error_500", after=2))) as caller:
        assert [(await caller.get(path))[0] for _ in range(3)] == [200, 200, 500]


@pytest.mark.parametrize("kind", ["truncate", "reset_before"])
async def test_a_download_can_break_off(calling: Open, kind: Any) -> None:
    """Fewer bytes than announced, or none at all; then it works."""
    async with calling(faults=FaultPlan(Fault("image", kind))) as caller:
        url = await caller.image()
        with pytest.raises(aiohttp.ClientError):
            await caller.download(url)
        caller.emulator.faults = FaultPlan()
        assert (await caller.download(url))[0] == 200


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("wrong_image", 200),
        ("garbage_200", 200),
        ("expire", 410),
        ("error_500", 500),
        ("busy", 503),
        ("html_wall", 403),
    ],
)
async def test_a_download_can_be_no_image(calling: Open, kind: Any, status: int) -> None:
    """Whatever its status says."""
    async with calling(faults=FaultPlan(Fault("image", kind)), image_format="png") as caller:
        told, data = await caller.download(await caller.image())
        assert told == status
        assert not data.startswith(b"\x89PNG")


def test_rates_are_seeded() -> None:
    """The same seed strikes the same requests, about as often as told."""
    rolls = [
        [plan.draw("submit") is not None for _ in range(1000)]
        for plan in (FaultPlan(Fault("submit", "refuse", rate=0.25), seed=seed) for seed in (7, 7, 8))
    ]
    assert rolls[0] == rolls[1] != rolls[2]
    assert 200 < sum(rolls[0]) < 300


def test_the_first_rule_that_strikes_wins() -> None:
    """Rules are asked in order; spent ones are passed over."""
    plan = FaultPlan(Fault("poll", "refuse", times=1), Fault("poll", "stall", after=1), Fault("poll", "busy"))
    assert [fault.kind for fault in (plan.draw("poll"), plan.draw("poll"), plan.draw("poll")) if fault] == [
        "refuse",
        "busy",
        "stall",
    ]


@pytest.mark.parametrize("rule", [("upload", "refuse"), ("poll", "explode"), ("models", "fail_generation")])
def test_a_rule_without_sense_is_refused(rule: Any) -> None:
    """At once, with what would have been possible."""
    with pytest.raises(ValueError, match=r"stages are|it can"):
        Fault(*rule)


async def test_a_storm_of_faults_keeps_the_books_straight(calling: Open) -> None:
    """Whatever strikes, the balance and the ledger agree."""
    kinds: tuple[Any, ...] = ("reset_before", "reset_after", "busy", "garbage_200", "truncate", "error_500_after")
    plan = FaultPlan(*(Fault("submit", kind, rate=0.1) for kind in kinds), seed=random.Random(1).randrange(99))
    async with calling(faults=plan, limit=None) as caller:
        await asyncio.gather(*(caller.post(f"prompt {n}") for n in range(100)), return_exceptions=True)
        ledger = caller.emulator.ledger
        assert caller.emulator.account("nb_test").credits == 1000 - ledger.credits_charged
        assert len(ledger.charged_prompts()) == len(set(ledger.charged_prompts())) == ledger.charges
        assert plan.fired.total() > 20


async def test_no_plan_is_one_without_faults(calling: Open) -> None:
    """None means the default, when it is made and while it runs."""
    async with calling(faults=None) as caller:
        assert (await caller.post())[0] == 200
        caller.emulator.faults = FaultPlan(Fault("submit", "refuse"))
        assert (await caller.post())[0] == 429
        caller.emulator.faults = None
        assert caller.emulator.faults.fired == {}
