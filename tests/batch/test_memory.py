"""What a batch remembers of the account: it starts warm where an earlier run has learned."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from running import run, runner

from nanobanana_async import GenerateRequest, LearnedPlan
from nanobanana_async.batch import Journal, Patience
from nanobanana_async.batch._memory import LEARNED, LIMIT

pytestmark = pytest.mark.usefixtures("leaks_nothing")


def observations(text):
    return {tuple(key): len(seen) for key, seen in json.loads(text)["durations"]}


async def remembered(folder, name):
    async with Journal.open(folder) as journal:
        return await journal.get_setting(name)


async def test_a_resumed_batch_starts_warm(online, tmp_path):
    """Another process, another plan, and nothing of what was learned is lost; the quantity tells kinds apart."""
    pair = GenerateRequest(prompt="two cats", quantity=2)
    options = {"limit": 3, "duration": 0.03, "client": {"poll": LearnedPlan()}}
    async with online(**options) as (_, client), runner(client, tmp_path) as batch:
        await batch.add([pair, *(f"cat {number}" for number in range(8))])
        assert (await batch.run()).all_stored
    told = await remembered(tmp_path, LEARNED)
    assert observations(told) == {("nano-banana", "async", 0, 1): 8, ("nano-banana", "async", 0, 2): 1}
    assert await remembered(tmp_path, LIMIT) == "3"
    plan = LearnedPlan()
    async with online(client={"poll": plan}) as (_, client):
        await run(client, tmp_path)
    assert plan.dump() == told


async def test_a_resumed_batch_knows_how_long_it_will_take(online, tmp_path):
    """Before one of its rows is done: by the lengths of the run before, and the account's slots."""
    async with online(limit=2, duration=0.05, client={"poll": LearnedPlan()}) as (_, client):
        await run(client, tmp_path, 8)
        length = client.plan.mean_length
    assert 0.02 < length < 1
    forever = {"limit": 2, "duration": float("inf"), "client": {"poll": LearnedPlan()}}
    async with online(**forever) as (emulator, client), runner(client, tmp_path) as batch:
        await batch.add(f"cat {number}" for number in range(18))
        planned = (await batch.preflight()).seconds
        running = asyncio.create_task(batch.run())
        await emulator.until(lambda: emulator.ledger.charges == 2)
        while batch.progress().limit is None and not running.done():
            await asyncio.wait((running,), timeout=0.01)
        told = batch.progress()
        emulator.duration = 0.01
        emulator.finish()
        assert (await running).all_stored
    assert (told.stored, told.limit) == (8, 2)
    assert [told.eta, planned] == pytest.approx([10 * length / 2] * 2, rel=0.1)


@pytest.mark.parametrize("written", ["", "no JSON", '{"durations": 7}', '{"durations": [[["m"], [[2, 1]]]]}'])
async def test_what_cannot_be_read_is_ignored(online, tmp_path, written):
    """It is only advice."""
    async with Journal.open(tmp_path) as journal:
        await journal.set_setting(LEARNED, written)
    async with online(client={"poll": LearnedPlan()}) as (_, client):
        assert (await run(client, tmp_path, 2)).all_stored
    assert sum(observations(await remembered(tmp_path, LEARNED)).values()) == 2


async def test_a_plan_that_learns_nothing_leaves_what_was_learned(online, tmp_path):
    """A run with fixed polling between two others."""
    told = '{"durations":[[["nano-banana","async",0,1],[[1.0,2.0]]]]}'
    async with Journal.open(tmp_path) as journal:
        await journal.set_setting(LEARNED, told)
    async with online(client={"poll": 0.01}) as (_, client):
        assert (await run(client, tmp_path, 2)).all_stored
    assert await remembered(tmp_path, LEARNED) == told


async def test_it_is_written_down_every_now_and_then(online, tmp_path):
    """A batch that is killed has lost only the last minute of it."""
    patience, plan = Patience(memory_interval=0.02), LearnedPlan()
    async with online(duration=0.01, client={"poll": plan}) as (emulator, client), AsyncExitStack() as stack:
        batch = await stack.enter_async_context(runner(client, tmp_path, patience=patience))
        await batch.add(["quick", "slow"])
        running = asyncio.create_task(batch.run())
        await emulator.until(lambda: emulator.ledger.charges == 1)
        emulator.duration = float("inf")
        await emulator.until(lambda: emulator.ledger.charges == 2)
        while await batch._journal.get_setting(LEARNED) is None:
            await asyncio.wait((running,), timeout=0.01)
        assert await batch._journal.get_setting(LEARNED) == plan.dump()
        emulator.finish()
        assert (await running).all_stored
