"""The shared book: what workers and coordinators of one account know of each other, in Redis.

Every method is one atomic script. Steps may be repeated, so a call whose answer was lost is made again: an intent is
known by its nonce, an acceptance by its id, an end by its state. What must not be lost (an id that is paid) is tried
for as long as `keep_timeout`; what would let more money be spent gives up early.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..._exceptions import BatchError, JournalError
from ._rows import RowRecord
from ._scripts import Scripts

_LOGGER = logging.getLogger(__name__)

SOCKET_TIMEOUT = 5.0  # seconds for one answer of Redis, whose scripts take microseconds
RETRY_DELAYS = (0.05, 0.1, 0.2, 0.5, 1.0)  # then the last one again and again


class BookError(JournalError):
    """Redis can't be reached, or has lost the batch."""


class ForgottenError(BookError):
    """Redis has lost the batch."""


class ShardLostError(BatchError):
    """The shard belongs to another worker by now, or its batch has stopped."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch's sums. `rows` by state; `base` was spent before; `busy` are shards under way; `stopped` says why."""

    rows: Mapping[str, int]
    shards: int
    ended: int
    base: int
    spent: int
    reserved: int
    doubtful: int
    twice: int
    workers: int
    busy: int
    stopped: str | None

    @property
    def over(self) -> bool:
        """Every shard is as far as this run can take it."""
        return self.ended >= self.shards


@dataclass(frozen=True, slots=True)
class Change:
    """A row's newest record, and the number of its change."""

    number: int
    index: int
    record: RowRecord


def root_of(account: str) -> str:
    """What the account's keys begin with; the braces keep them together in a cluster."""
    return f"nanobanana:{{{account}}}:batches"


def connect(url: str) -> Redis:
    """A connection pool for a book. Close it with `aclose()`."""
    redis: Redis = Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=SOCKET_TIMEOUT,
        health_check_interval=15,
    )
    return redis


class Book:
    """One account's part of the book.

    Raises everywhere: BookError when Redis can't be reached for longer than the step is tried.
    """

    def __init__(self, redis: Redis, account: str, *, try_timeout: float = 10.0, keep_timeout: float = 900.0) -> None:
        self.account = account
        self._scripts = Scripts(redis, root_of(account))
        self._try_timeout = try_timeout
        self._keep_timeout = keep_timeout

    def __repr__(self) -> str:
        return f"<Book of account {self.account}>"

    async def check(self) -> None:
        """Ask once whether Redis is there, for whoever waits at a keyboard."""
        await self._tried("quiet", ("", 0), 0.0)

    # ---- batches and shards

    async def begin(self, batch: str, meta: Mapping[str, Any], *, fresh: bool) -> bool:
        """Make a batch known, or go on with it. False when Redis has lost it: then nothing was written."""
        told = {name: value for name, value in meta.items() if value is not None}
        answer = await self._call("begin", batch, json.dumps(told), int(fresh))
        return bool(answer != "gone")

    async def meta(self, batch: str) -> dict[str, str]:
        """What was told of a batch when it began; empty when it is not known."""
        state, *_ = await self._call("state", batch)
        return dict(zip(state[::2], state[1::2], strict=True))

    async def hand_out(self, batch: str, shard: int, rows: int, tried: Mapping[int, RowRecord], delay: float) -> bool:
        """Make a shard known; False when it was. `tried` are those of its rows that are not new."""
        records = {str(index): record.to_dict() for index, record in tried.items()}
        return bool(await self._call("hand_out", batch, shard, rows, _ms(delay), json.dumps(records)) == "new")

    async def state(self, batch: str) -> BatchState:
        """The sums of this moment. Raises: ForgottenError when Redis has lost the batch."""
        pairs, workers, busy = await self._call("state", batch)
        told = dict(zip(pairs[::2], pairs[1::2], strict=True))
        if not told:
            raise _gone(batch)
        sums = {name: int(told.get(name, 0)) for name in _SUMS}
        rows = {name[2:]: int(value) for name, value in told.items() if name.startswith("n:")}
        return BatchState(rows=rows, workers=int(workers), busy=int(busy), stopped=told.get("stopped"), **sums)

    async def stop(self, batch: str, reason: str) -> None:
        """Let nobody submit any more."""
        await self._call("stop", batch, reason)

    async def changed(self, batch: str, limit: int) -> list[Change]:
        """Rows that changed, the oldest change first, until `noticed` says that they are known."""
        found = await self._call("changed", batch, limit)
        return [Change(int(float(number)), int(index), RowRecord.from_json(text)) for number, _, index, text in found]

    async def noticed(self, batch: str, number: int) -> None:
        """Changes up to this one are known."""
        await self._call("noticed", batch, number)

    async def forget(self, batch: str) -> bool:
        """Drop all of a batch that is over; False when it is not, or has news."""
        return bool(await self._call("forget", batch) == "ok")

    async def sweep(self, patience: float, limit: int = 20) -> list[tuple[str, int]]:
        """Shards that are open and nobody's, each of them once in `patience` seconds."""
        found = await self._call("sweep", _ms(patience), limit)
        return [(name, int(number)) for name, number in zip(found[::2], found[1::2], strict=True)]

    # ---- workers

    async def join(self, worker: str, ttl: float) -> None:
        """A lease begins."""
        await self._call("join", worker, _ms(ttl))

    async def renew(self, worker: str, ttl: float) -> bool:
        """The lease goes on; False when it had ended. Raises: RedisError, at once."""
        return bool(await self._scripts.run("renew", worker, _ms(ttl)))

    async def leave(self, worker: str) -> bool:
        """The lease ends now; False when Redis did not know it."""
        return bool(await self._call("leave", worker))

    async def bury(self, worker: str) -> None:
        """The lease of a process that is gone for certain."""
        await self._call("bury", worker)

    async def workers(self) -> list[str]:
        """All whose leases began within the last day."""
        return [str(name) for name in await self._call("workers")]

    async def claim(self, batch: str, shard: int, worker: str) -> tuple[str, str]:
        """`ok` and a fence, or why not."""
        answer = await self._call("claim", batch, shard, worker)
        return answer[0], answer[1] if len(answer) > 1 else ""

    async def release(self, batch: str, shard: int, fence: str, state: str) -> None:
        """A slice ends."""
        await self._call("release", batch, shard, fence, state)

    # ---- rows

    async def records(self, batch: str, shard: int) -> dict[int, RowRecord]:
        """What is known of a shard's rows; new ones are not among them."""
        found = await self._keep("rows", batch, shard)
        return {int(i): RowRecord.from_json(text) for i, text in zip(found[::2], found[1::2], strict=True)}

    async def intend(self, *values: Any) -> str:
        """See intend.lua. Returns its word."""
        return str(await self._call("intend", *values))

    async def withdraw(self, batch: str, shard: int, index: int, nonce: str) -> None:
        """The intent was not sent, or took nothing."""
        await self._keep("withdraw", batch, shard, index, nonce)

    async def accept(
        self, batch: str, shard: int, index: int, nonce: str, told: tuple[str | None, int | None, int | None]
    ) -> str:
        """The intent was taken: its id, what it took, what is left. `ok`, `twice`; `late`: the batch is over."""
        return str(await self._keep("accept", batch, shard, index, nonce, *("" if v is None else v for v in told)))

    async def record(self, batch: str, shard: int, index: int, record: RowRecord) -> str:
        """What came of a row. `ok`; `late` for a batch that is over; `other` if another generation is the row's."""
        return str(await self._keep("record", batch, shard, index, record.to_json()))

    async def doubt(self, batch: str, shard: int, index: int, nonce: str) -> None:
        """No answer will come to this intent."""
        await self._keep("doubt", batch, shard, index, nonce)

    # ---- what comes late

    async def late(self, batch: str) -> dict[int, RowRecord]:
        """What was told of a batch's rows when it was over or forgotten."""
        found = await self._call("late", batch)
        return {int(i): RowRecord.from_json(text) for i, text in zip(found[::2], found[1::2], strict=True)}

    async def tell_again(self, batch: str, records: Mapping[int, RowRecord]) -> None:
        """What was told before, kept as late if Redis has lost the batch."""
        told = {str(index): record.to_dict() for index, record in records.items()}
        await self._call("tell_again", batch, json.dumps(told))

    # ---- judging

    async def quiet(self, token: str = "", hold: float = 0.0) -> tuple[int, int, int]:
        """Submissions on their way, those of the dead that are not due, and doubts. -1: another holds."""
        live, pending, doubts = await self._call("quiet", token, _ms(hold))
        return live, pending, doubts

    async def judge(self, token: str, balance: int, *values: Any) -> str:
        """See judge.lua."""
        return str(await self._call("judge", token, balance, *values))

    async def witness(self, token: str, balance: int) -> bool:
        """The balance while nothing is on its way."""
        return bool(await self._call("witness", token, balance) == "ok")

    async def unhold(self, token: str) -> None:
        """Let submissions through again."""
        await self._call("unhold", token)

    # ---- inside

    async def _call(self, name: str, *values: Any) -> Any:
        return await self._tried(name, values, self._try_timeout)

    async def _keep(self, name: str, *values: Any) -> Any:
        return await self._tried(name, values, self._keep_timeout)

    async def _tried(self, name: str, values: Sequence[Any], timeout: float) -> Any:
        """Run a script until Redis answers, for `timeout` seconds at most."""
        until, delays = time.monotonic() + timeout, iter(RETRY_DELAYS)
        while True:
            try:
                return await self._scripts.run(name, *values)
            except (RedisConnectionError, RedisTimeoutError, OSError) as error:
                if time.monotonic() > until:
                    raise BookError(
                        f"Redis can't be reached ({error}); start it, then run the same command again"
                    ) from error
                _LOGGER.info("Redis does not answer (%s); trying again", error)
            except RedisError as error:
                raise BookError(f"Redis refuses ({error}); see to that, then run the same command again") from error
            await anyio.sleep(next(delays, RETRY_DELAYS[-1]))


_SUMS = ("shards", "ended", "base", "spent", "reserved", "doubtful", "twice")


def _gone(batch: str) -> ForgottenError:
    return ForgottenError(f"Redis knows no batch {batch}: it was flushed, or is another server")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
