"""Many prompts in, outcomes out: in flat memory, whatever the input or the service does."""

import asyncio
import itertools
import math

import pytest

from nanobanana_async import (
    GenerateRequest,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    JobCancelledError,
)

pytestmark = pytest.mark.usefixtures("leaks_nothing")


async def outcomes_of(client, prompts, **options):
    async with client.map(prompts, **options) as outcomes:
        return [outcome async for outcome in outcomes]


async def test_every_prompt_has_one_outcome(online):
    """With its place, its item, its request, and a generation or an error."""
    async with online(limit=5) as (_, client):
        outcomes = await outcomes_of(client, ["a", GenerateRequest(prompt="b"), "[fail]"])
        by_place = sorted(outcomes, key=lambda outcome: outcome.index)
        assert [outcome.request.prompt for outcome in by_place] == ["a", "b", "[fail]"]
        assert [outcome.generation and outcome.generation.prompt for outcome in by_place] == ["a", "b", None]
        assert isinstance(by_place[2].error, GenerationFailedError)


async def test_outcomes_come_as_they_finish(online):
    """The slow one doesn't hold up the others."""
    async with online(limit=3, duration=math.inf) as (emulator, client), client.map(["slow", "quick"]) as outcomes:
        await emulator.until(lambda: emulator.ledger.active == 2)
        emulator.finish(emulator.ledger.charged()[1].generation_id)
        assert (await anext(outcomes)).item == "quick"
        emulator.finish()
        assert (await anext(outcomes)).item == "slow"


async def test_an_endless_input_is_read_only_as_fast_as_outcomes_are_taken(online):
    """So memory stays flat: never more than `max_pending` items between input and reader."""
    read = 0

    def endless():
        nonlocal read
        for read in itertools.count(1):
            yield f"cat {read}"

    async with online(limit=4, duration=0.002) as (_, client), client.map(endless(), max_pending=10) as outcomes:
        for taken in range(1, 60):
            await anext(outcomes)
            assert read <= taken + 10
        await client.idle()
        assert read <= 70


async def test_an_async_iterable(online):
    """Read on the loop, and closed when it is no longer wanted."""
    closed = asyncio.Event()

    async def prompts():
        try:
            for number in itertools.count():
                await asyncio.sleep(0)
                yield f"cat {number}"
        finally:
            closed.set()

    async with online(limit=4) as (_, client):
        source = prompts()
        async with client.map(source, max_pending=4) as outcomes:
            items = {(await anext(outcomes)).item for _ in range(4)}
        assert len(items) == 4
        assert items <= {f"cat {number}" for number in range(8)}  # a later one may overtake the fourth
        await source.aclose()
        assert closed.is_set()


async def test_what_can_not_be_sent_is_an_outcome_too(online):
    """It costs nothing and stops nothing."""
    async with online(limit=5) as (emulator, client):
        outcomes = await outcomes_of(client, ["good", " ", 7, None, "also good"], quantity=2)
        bad = [outcome for outcome in outcomes if outcome.error is not None]
        assert {outcome.item for outcome in bad} == {" ", 7, None}
        assert all(isinstance(outcome.error, InvalidRequestError) and outcome.request is None for outcome in bad)
        assert emulator.ledger.credits_charged == 4


async def test_invalid_items_are_read_no_faster_than_others(online):
    """An endless input of nonsense stays in flat memory as well."""
    read = itertools.count()
    async with online() as (_, client), client.map((" " for _ in read), max_pending=5) as outcomes:
        for _ in range(20):
            await anext(outcomes)
        assert next(read) <= 26


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_input_that_raises(online, kind):
    """Its error comes after the outcomes of everything before it."""

    def broken():
        yield from ("one", "two")
        raise OSError("the disk is gone")

    async def broken_async():
        for prompt in broken():
            yield prompt

    prompts = broken() if kind == "sync" else broken_async()
    async with online(limit=2) as (_, client), client.map(prompts) as outcomes:
        assert {(await anext(outcomes)).item, (await anext(outcomes)).item} == {"one", "two"}
        with pytest.raises(OSError, match="the disk is gone"):
            await anext(outcomes)


async def test_leaving_early_cancels_what_waits(online):
    """What runs at the service runs on; the rest is never sent."""
    async with online(limit=2, duration=math.inf) as (emulator, client):
        async with client.map(f"cat {number}" for number in itertools.count()) as outcomes:
            await emulator.until(lambda: emulator.ledger.active == 2)
            emulator.finish(emulator.ledger.charged()[0].generation_id)
            await anext(outcomes)
            await emulator.until(lambda: emulator.ledger.active == 2)
        assert client.statistics().queued == 0
        emulator.finish()
        await client.idle()
        assert emulator.ledger.charges <= 4
        assert client.statistics().running == client.statistics().abandoned == 0


async def test_no_outcome_is_left_after_its_block(online):
    """Reading on finds the end, not a wait without end."""
    async with online(duration=math.inf) as (emulator, client):
        async with client.map(["a", "b"]) as outcomes:
            await emulator.until(lambda: emulator.ledger.active == 1)
        assert [outcome async for outcome in outcomes if not isinstance(outcome.error, JobCancelledError)] == []
        emulator.finish()


async def test_outcomes_outside_their_block_are_an_error(online):
    """Not silently none."""
    async with online() as (_, client):
        with pytest.raises(RuntimeError, match="async with"):
            await anext(client.map(["a"]))


async def test_one_failure_stops_nothing(online):
    """Neither one generation's failure, nor credits that run out."""
    async with online(limit=3, credits=6) as (emulator, client):
        outcomes = await outcomes_of(client, ["a", "[fail]", "b", "[unsafe]", "c", "d", "e", "f"])
        assert len(outcomes) == 8
        assert sum(isinstance(outcome.error, InsufficientCreditsError) for outcome in outcomes) == 2
        assert emulator.ledger.charges == 6


async def test_an_empty_input(online):
    """Ends at once."""
    async with online() as (_, client):
        assert await outcomes_of(client, []) == []
        assert await outcomes_of(client, iter(())) == []


async def test_a_closed_client_ends_its_maps(online):
    """Jobs under way come out as cancelled, then the reader hears why nothing follows."""
    cats = (f"cat {number}" for number in itertools.count())
    async with online(duration=math.inf) as (emulator, client), client.map(cats, max_pending=3) as outcomes:
        await emulator.until(lambda: emulator.ledger.active == 1)
        await client.aclose()
        assert all([isinstance((await anext(outcomes)).error, JobCancelledError) for _ in range(3)])
        with pytest.raises(RuntimeError, match="closed"):
            await anext(outcomes)


async def test_several_readers_share_the_outcomes(online):
    """Each outcome goes to one of them, and all find the end."""

    async def read(outcomes):
        return [outcome.item async for outcome in outcomes]

    async with online(limit=4) as (_, client):
        prompts = [f"cat {number}" for number in range(20)]
        async with client.map(prompts, max_pending=6) as outcomes:
            shares = await asyncio.gather(*(read(outcomes) for _ in range(3)))
        assert sorted(itertools.chain(*shares)) == sorted(prompts)


async def test_many_maps_at_once(online):
    """Each has its own outcomes; all share the slots."""
    async with online(limit=3, duration=0.03) as (emulator, client):
        prompts = [[f"{letter} {number}" for number in range(6)] for letter in "abc"]
        results = await asyncio.gather(*(outcomes_of(client, part) for part in prompts))
        assert [sorted(outcome.item for outcome in part) for part in results] == prompts
        assert emulator.ledger.peak_active == 3


async def test_a_width_that_reads_nothing_is_refused(online):
    """It would wait forever."""
    async with online() as (_, client):
        with pytest.raises(ValueError, match="max_pending"):
            client.map(["a"], max_pending=0)
