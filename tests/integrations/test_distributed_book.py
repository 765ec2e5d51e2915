"""The book's steps by themselves: who may submit, what is counted, and how lost answers are judged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from patience import PATIENCE

from nanobanana_async.batch import JobState
from nanobanana_async.integrations.distributed import Book
from nanobanana_async.integrations.distributed._book import connect
from nanobanana_async.integrations.distributed._rows import RowRecord

ANSWER_MS = 1000
LONG = 60.0
WORDS = ("lost", "uncertain", "dropped", '{"kind": "BatchError", "message": "takes nothing"}')


class Desk:
    """A batch of ten rows in one shard, and workers by their names."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.fences: dict[str, str] = {}

    async def claim(self, worker: str, ttl: float = 30.0) -> str:
        await self.book.join(worker, ttl)
        word, self.fences[worker] = await self.book.claim("b", 0, worker)
        return word

    async def intend(self, worker: str, index: int, nonce: str, cost: int | str = 1, *, again: bool = False) -> str:
        fence = self.fences[worker]
        return await self.book.intend("b", 0, index, fence, worker, nonce, cost, ANSWER_MS, int(again))

    async def accept(self, index: int, nonce: str, name: str, credits_used: int = 1, left: int | None = None) -> str:
        return await self.book.accept("b", 0, index, nonce, (name, credits_used, left))

    async def row(self, index: int) -> RowRecord:
        return (await self.book.records("b", 0)).get(index, RowRecord())

    async def judge(self, balance: int) -> str:
        await self.book.quiet("token", 5.0)
        return await self.book.judge("token", balance, 900_000, 5, 1, *WORDS)

    async def begin(self, **meta: Any) -> None:
        await self.book.begin("b", meta, fresh=True)
        await self.book.hand_out("b", 0, 10, {}, 0.0)

    async def witness(self, balance: int) -> bool:
        await self.book.quiet("token", 5.0)
        return await self.book.witness("token", balance)


@pytest.fixture
async def desk(redis_server):
    redis = connect(redis_server.url)
    desk = Desk(Book(redis, "account"))
    await desk.begin()
    yield desk
    await redis.aclose()


async def test_a_shard_has_one_owner_at_a_time(desk):
    """Until its lease ends, or it gives the shard back."""
    assert await desk.claim("one") == "ok"
    assert await desk.claim("two") == "taken"
    assert await desk.claim("one") == "taken"  # a message that came twice
    await desk.book.leave("one")
    assert await desk.claim("two") == "ok"


async def test_a_fenced_worker_may_not_submit(desk):
    """Its lease ended while it was stopped, and another has the shard: the intent is refused before any POST."""
    await desk.claim("one")
    await desk.book.bury("one")
    assert await desk.intend("one", 0, "n0") == "fenced"  # before anybody has taken over
    await desk.claim("two")
    assert await desk.intend("one", 0, "n1") == "fenced"
    assert not await desk.book.renew("one", 30.0)  # what has ended is not revived
    assert await desk.intend("two", 0, "n2") == "ok"


async def test_an_intent_that_is_asked_for_again_stands_once(desk):
    """Its answer was lost on the way from Redis: by the nonce it is the same."""
    await desk.claim("one")
    assert await desk.intend("one", 0, "n") == "ok"
    assert await desk.intend("one", 0, "n") == "ok"
    assert await desk.intend("one", 0, "other") == "misplaced"
    assert (await desk.row(0)).attempts == 1
    assert (await desk.book.state("b")).reserved == 1


async def test_an_intent_that_arrives_after_its_withdrawal_is_void(desk):
    """Commands of a connection that was given up may still come in."""
    await desk.claim("one")
    await desk.book.withdraw("b", 0, 0, "n")
    assert await desk.intend("one", 0, "n") == "void"
    assert await desk.intend("one", 0, "m") == "ok"


async def test_the_budget_is_kept_over_all_workers(desk):
    """What is reserved counts, and what a withdrawal frees does not."""
    await desk.begin(max=3, base=1)
    await desk.claim("one")
    assert await desk.intend("one", 0, "a") == "ok"
    assert await desk.intend("one", 1, "b") == "ok"
    assert await desk.intend("one", 2, "c") == "budget:0"
    await desk.book.withdraw("b", 0, 1, "b")
    assert await desk.intend("one", 2, "c", cost=2) == "budget:1"
    assert await desk.intend("one", 2, "d") == "ok"
    assert await desk.intend("one", 3, "e", cost="") == "unpriced"


async def test_a_paid_id_is_recorded_however_late(desk):
    """By a worker that lost everything but the truth, also when the row was given up as lost."""
    await desk.witness(100)
    await desk.claim("one")
    await desk.intend("one", 0, "n")
    await desk.book.bury("one")
    await desk.claim("two")
    assert await desk.judge(99) == "taken"
    assert (await desk.row(0)).state is JobState.LOST
    await desk.book.release("b", 0, desk.fences["two"], "done")
    assert await desk.accept(0, "n", "g0") == "ok"
    row, state = await desk.row(0), await desk.book.state("b")
    assert (row.state, row.generation_id, state.spent, state.reserved) == (JobState.RUNNING, "g0", 1, 0)
    assert not state.over  # somebody has to bring it home
    assert await desk.accept(0, "n", "g0") == "ok"
    assert (await desk.book.state("b")).spent == 1


async def test_a_second_generation_of_a_row_is_told(desk):
    """It can't be undone, but it counts."""
    await desk.claim("one")
    await desk.intend("one", 0, "n")
    await desk.accept(0, "n", "g0")
    assert await desk.accept(0, "other", "g1") == "twice"
    state = await desk.book.state("b")
    assert (state.twice, state.spent) == (1, 2)
    assert (await desk.row(0)).generation_id == "g0"


@pytest.mark.parametrize(
    ("balance", "verdict", "end"),
    [(97, "not taken", JobState.READY), (95, "taken", JobState.LOST), (96, "unknown", JobState.UNCERTAIN)],
)
async def test_doubts_are_judged_by_what_all_workers_spent(desk, balance, verdict, end):
    """100 at the start, 3 told in answers of two workers, 2 in doubt."""
    await desk.witness(100)
    await desk.claim("one")
    for index, price in ((0, 1), (1, 2)):
        await desk.intend("one", index, f"n{index}", price)
        await desk.accept(index, f"n{index}", f"g{index}", price)
    await desk.intend("one", 2, "n2", 2)
    await desk.book.doubt("b", 0, 2, "n2")
    assert await desk.judge(balance) == verdict
    assert (await desk.row(2)).state is end
    state = await desk.book.state("b")
    assert (state.spent, state.reserved) == (5 if verdict == "taken" else 3, 2 if verdict == "unknown" else 0)


async def test_nothing_is_judged_while_a_submission_is_on_its_way(desk):
    """Nor is anything submitted while a judgement is."""
    await desk.witness(100)
    await desk.claim("one")
    await desk.intend("one", 0, "n0")
    await desk.book.doubt("b", 0, 0, "n0")
    await desk.intend("one", 1, "n1")
    assert await desk.book.quiet("token", 5.0) == (1, 0, 1)
    assert await desk.judge(100) == "again"
    assert await desk.intend("one", 2, "n2") == "held"
    assert (await desk.book.quiet("other", 5.0))[0] == -1
    await desk.accept(1, "n1", "g1")
    assert await desk.judge(99) == "not taken"
    assert await desk.intend("one", 2, "n2") == "ok"


async def test_a_judgement_whose_hold_ended_counts_for_nothing(desk):
    """The judge was stopped for too long: others may have submitted since it read the balance."""
    await desk.claim("one")
    await desk.intend("one", 0, "n0")
    await desk.book.doubt("b", 0, 0, "n0")
    await desk.book.quiet("token", 5.0)
    await desk.book.unhold("token")
    assert await desk.book.judge("token", 100, 900_000, 5, 1, *WORDS) == "again"
    assert (await desk.row(0)).state is JobState.INTENT


async def test_somebody_else_on_the_account_makes_the_balance_no_witness(desk):
    """An answer tells of less than our spending explains."""
    await desk.witness(100)
    await desk.claim("one")
    await desk.intend("one", 0, "n0")
    await desk.accept(0, "n0", "g0", 1, left=90)
    await desk.intend("one", 1, "n1")
    await desk.book.doubt("b", 0, 1, "n1")
    assert await desk.judge(90) == "unknown"


async def test_answers_that_overtake_each_other_are_no_somebody_else(desk):
    """Two on their way together: each balance told is explained by what may have been charged meanwhile."""
    await desk.witness(100)
    await desk.claim("one")
    await desk.intend("one", 0, "n0")
    await desk.intend("one", 1, "n1")
    await desk.accept(0, "n0", "g0", 1, left=98)  # the service took the other one first
    await desk.accept(1, "n1", "g1", 1, left=99)
    await desk.intend("one", 2, "n2")
    await desk.book.doubt("b", 0, 2, "n2")
    assert await desk.judge(98) == "not taken"


async def test_a_dead_workers_intent_is_judged_when_no_answer_can_come(desk):
    """Its lease, and then the deadline of its submission; its shard is free after the lease."""
    await desk.witness(100)
    await desk.claim("one")
    await desk.intend("one", 0, "n0")
    assert await desk.book.quiet() == (1, 0, 0)
    await desk.book.renew("one", 0.001)
    await asyncio.sleep(0.01)  # Redis's own clock ends it
    assert await desk.claim("two") == "ok"
    assert await desk.book.quiet() == (0, 1, 0)
    async with asyncio.timeout(PATIENCE):
        while (counts := await desk.book.quiet()) == (0, 1, 0):  # noqa: ASYNC110  # Redis's own clock
            await asyncio.sleep(0.01)
    assert counts == (0, 0, 1)
    assert await desk.judge(100) == "not taken"
    assert await desk.intend("two", 0, "n1") == "ok"


async def test_a_row_that_is_never_taken_fails_where_others_are(desk):
    """It is the row's fault then; where nothing is taken, the batch stops."""
    await desk.witness(100)
    await desk.claim("one")
    for turn in range(5):
        await desk.intend("one", 0, f"n{turn}")
        await desk.book.doubt("b", 0, 0, f"n{turn}")
        if turn == 3:
            await desk.intend("one", 1, "other")
            await desk.accept(1, "other", "g1")
        await desk.judge(100 if turn < 3 else 99)
    assert (await desk.row(0)).state is JobState.FAILED
    assert (await desk.book.state("b")).stopped is None
    for turn in range(5):
        await desk.intend("one", 2, f"m{turn}")
        await desk.book.doubt("b", 0, 2, f"m{turn}")
        await desk.judge(99)
    assert (await desk.row(2)).state is JobState.READY
    assert await desk.intend("one", 3, "n") == "stopped"


async def test_an_uncertain_row_that_is_sent_again_keeps_its_doubt(desk):
    """What the first attempt may have taken stays counted; refused, the row is as uncertain as before."""
    await desk.claim("one")
    await desk.intend("one", 0, "n0")
    await desk.book.doubt("b", 0, 0, "n0")
    await desk.judge(100)  # nothing was known of the balance
    assert await desk.intend("one", 0, "n1") == "misplaced"
    assert await desk.intend("one", 0, "n1", again=True) == "ok"
    assert (await desk.book.state("b")).doubtful == 1
    await desk.book.withdraw("b", 0, 0, "n1")
    row, state = await desk.row(0), await desk.book.state("b")
    assert (row.state, row.attempts, state.doubtful, state.reserved) == (JobState.UNCERTAIN, 1, 0, 1)


async def test_changes_are_told_until_they_are_noticed(desk):
    """A row that changes again after it was read is told again."""
    await desk.claim("one")
    await desk.intend("one", 0, "n0")
    await desk.intend("one", 1, "n1")
    first, second = await desk.book.changed("b", 10)
    assert (first.index, second.index, second.record.state) == (0, 1, JobState.INTENT)
    await desk.accept(0, "n0", "g0")
    await desk.book.noticed("b", second.number)
    [change] = await desk.book.changed("b", 10)
    assert (change.index, change.record.state) == (0, JobState.RUNNING)
    assert not await desk.book.forget("b")


async def test_what_nobody_works_on_is_swept_up_once_in_a_while(desk):
    """Each message is sent again only after it had its time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await desk.book.sweep(0.05) == [("b", 0)]
    async with asyncio.timeout(PATIENCE):
        while not (found := await desk.book.sweep(0.05)):  # noqa: ASYNC110  # the same
            await asyncio.sleep(0.005)
    assert found == [("b", 0)]
    assert loop.time() - began > 0.045  # Redis counts in milliseconds
    await desk.claim("one")
    await asyncio.sleep(0.06)
    assert await desk.book.sweep(LONG) == []
    await desk.book.leave("one")
    assert await desk.book.sweep(LONG) == [("b", 0)]
    assert await desk.book.sweep(LONG) == []


async def test_a_batch_that_redis_has_lost_is_not_begun_by_accident(desk, redis_server):
    """It would be begun without its rows' states, and they would be sent again."""
    await desk.claim("one")
    redis_server.run("FLUSHALL")
    assert not await desk.book.begin("b", {}, fresh=False)
    assert await desk.intend("one", 0, "n") == "gone"
    assert redis_server.run("DBSIZE") == 0


async def test_what_is_told_of_a_batch_that_is_forgotten_is_kept(desk, redis_server):
    """A paid id that comes late, and its image; in whatever order they are told again."""
    redis_server.run("FLUSHALL")
    assert await desk.accept(0, "n", "g0") == "late"
    stored = RowRecord(state=JobState.STORED, generation_id="g0", files=("images/0.png",))
    assert await desk.book.record("b", 0, 0, stored) == "late"
    running = RowRecord(state=JobState.RUNNING, generation_id="g0", credits=1)
    await desk.book.tell_again("b", {0: running, 1: running})
    told = await desk.book.late("b")
    assert (told[0].state, told[0].credits, told[0].files) == (JobState.STORED, 1, stored.files)
    assert (told[1].state, told[1].generation_id) == (JobState.RUNNING, "g0")
    assert await desk.accept(0, "m", "g1") == "twice"
    await desk.begin()
    await desk.book.tell_again("b", {2: running})  # nothing was forgotten
    assert 2 not in await desk.book.late("b")
