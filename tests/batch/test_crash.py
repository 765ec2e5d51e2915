"""SIGKILL at each state of a job, and at random moments: nothing is paid twice, nothing that is paid is hidden."""

from __future__ import annotations

import asyncio
import random

import pytest
import pytest_asyncio
from crashing import Nursery, compare, work

from nanobanana_async.batch import Journal
from nanobanana_async.emulator import Emulator, Fault, FaultPlan

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROWS = 5
SERVICE = {"limit": 3, "duration": 0.03, "image_size": 48, "image_format": "png", "credits": 100}

# Where it is killed, and how many ids are lost with it. While images are fetched, or the next row's intent is made, an
# answer may be there that is not recorded yet.
MAYBE = (0, 1)
STEPS = {
    "after:add_rows:1": (0,),
    "before:set_balance:1": (0,),
    "before:intend:3": MAYBE,
    "after:intend:3": (0,),  # the POST was not sent: the balance tells, and it is
    "before:accepted:3": (1,),  # the answer was there, and its id went with the process
    "after:accepted:3": (0,),
    "before:finished:2": MAYBE,
    "after:finished:2": MAYBE,
    "before:stored:2": MAYBE,
    "after:stored:2": MAYBE,
    "before:write:1": MAYBE,
    "after:write:1": MAYBE,
}
JUDGED = {
    "before:ended:1": ("reset_after", (1,)),
    "after:ended:1": ("reset_after", (1,)),
    "before:withdrawn:1": ("reset_before", (0,)),
    "after:withdrawn:1": ("reset_before", (0,)),
    "after:set_balance:2": ("reset_after", (1,)),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nursery():
    """One for all tests: what it imports takes longer than some of them."""
    async with Nursery() as nursery:
        yield nursery


async def crash(nursery, folder, *, at="-", after=None, faults=None):
    """Kill one process on its way, and let this one finish the batch."""
    async with Emulator(**SERVICE, faults=faults or FaultPlan()) as emulator:
        killed = await nursery.crash(folder, emulator.url, ROWS, at=at, after=after)
        assert killed or after is not None, f"{at} was never reached"
        await work(folder, emulator.url, ROWS)
        return compare(folder, emulator.ledger)


async def test_a_kill_at_each_state_of_a_job(nursery, tmp_path):
    """Each is taken up where it was; only between an answer and its record is an id lost, and that is told."""
    await _check(nursery, tmp_path, {step: (None, end) for step, end in STEPS.items()})


async def test_a_kill_when_images_are_made_and_not_stored(nursery, tmp_path):
    """Their links are in the journal a moment after they are told, and are enough."""
    stalled = FaultPlan(Fault("image", "stall", times=1))
    async with Emulator(**SERVICE, faults=stalled) as emulator:
        assert await nursery.crash(tmp_path, emulator.url, 1, at="after:completed:1")
        assert emulator.ledger.requests["GET /images"] == 1  # not after that download was given up
        [row] = Journal.read(tmp_path)
        assert (row.status, len(row.urls)) == ("completed", 1)
        looks = emulator.ledger.requests["GET /generate"]
        await work(tmp_path, emulator.url, 1)
        assert emulator.ledger.requests["GET /generate"] == looks
        assert compare(tmp_path, emulator.ledger).clean


async def test_a_kill_during_a_judgement(nursery, tmp_path):
    """A lost answer is judged at the next start as it would have been at once."""
    await _check(nursery, tmp_path, JUDGED)


async def _check(nursery, tmp_path, cases):
    def faults(kind):
        return FaultPlan(Fault("submit", kind, times=1, after=2)) if kind else None

    found = await asyncio.gather(
        *(
            crash(nursery, tmp_path / str(place), at=step, faults=faults(kind))
            for place, (step, (kind, _)) in enumerate(cases.items())
        )
    )
    for (step, (_, doubts)), findings in zip(cases.items(), found, strict=True):
        assert findings.clean, step
        assert findings.doubts in doubts, step
        assert findings.statuses["stored"] + findings.doubts == ROWS, step
        assert findings.credits_told == findings.credits_charged == ROWS, step


# Failed rows with known generations: one is made by now, one runs, two have failed for good.
SECOND_LOOK = (
    *("before:requeue:1", "after:requeue:1", "before:requeue:2", "after:requeue:2", "before:requeue:3"),
    *("before:accepted:1", "after:accepted:1", "before:stored:1", "after:stored:1", "before:set_setting:1"),
    *("before:intend:1", "after:intend:1"),
)


async def test_a_kill_while_failed_rows_are_looked_at_again(nursery, tmp_path):
    """What came late, or runs, is never paid again; what failed is paid once more, and all of it is told."""
    await asyncio.gather(
        *(_check_second_look(nursery, tmp_path / step.replace(":", "-"), step) for step in SECOND_LOOK)
    )


async def _check_second_look(nursery, folder, step):
    async with Emulator(**SERVICE, faults=FaultPlan(Fault("submit", "fail_generation", times=4))) as emulator:
        await work(folder, emulator.url, 4)
        made, runs, *failed = emulator.ledger.charged()
        made.state, made.error = "completed", None
        runs.state, runs.error = "processing", None
        assert await nursery.crash(folder, emulator.url, 4, at=step, retry_failed=True), step
        runs.state = "completed"
        await work(folder, emulator.url, 4)
        told = compare(folder, emulator.ledger)
        assert set(told.charged_twice) <= {entry.prompt for entry in failed}, step
        assert told.credits_told == told.credits_charged, step
        await work(folder, emulator.url, 4, retry_failed=True)
        told = compare(folder, emulator.ledger)
        assert sorted(told.charged_twice) == sorted(entry.prompt for entry in failed), step
        assert (told.statuses, told.credits_told, told.credits_charged) == ({"stored": 4}, 6, 6), step


async def test_kills_at_random_moments(nursery, tmp_path):
    """At most one doubt a kill, since one submission at a time is unanswered."""
    moments = [random.Random(number).uniform(0, 0.3) for number in range(5)]
    found = await asyncio.gather(
        *(crash(nursery, tmp_path / str(place), after=moment) for place, moment in enumerate(moments))
    )
    for findings in found:
        assert findings.clean
        assert findings.doubts <= 1
        assert findings.statuses["stored"] + findings.doubts == ROWS
