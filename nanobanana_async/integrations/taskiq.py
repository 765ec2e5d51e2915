"""Shards as taskiq tasks: on Redis Streams, as `nanobanana worker` does it, or on any other taskiq broker.

A message is `(batch, shard)` and means "look at this shard". Everything else (who has it, what was sent, what is left)
is in the book, so that a message may come twice, late or never; a lost one is sent again by the sweepers of workers
and coordinators. A task works for some minutes at most and, if there is more to do, sends the next message.

On a broker of your own, for `taskiq worker tasks:broker`:

    broker = AioPikaBroker("amqp://…")              # or NATS, SQS, Kafka, Postgres
    kick = drain_on(broker, lambda: open_worker("redis://…"))

and `DistributedBatch(client, "out", "redis://…", account=account_id(), kick=kick)` on the coordinator's side.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import anyio
from taskiq import AckableMessage, AsyncBroker, TaskiqEvents
from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver
from taskiq.state import TaskiqState
from taskiq_redis import RedisStreamBroker

from .._client import Client
from .._exceptions import NanoBananaError
from ._account import account_id
from .distributed import Kick, Sweeper, Worker, tell
from .distributed._beside import beside, end
from .redis import RedisLimiter

_LOGGER = logging.getLogger(__name__)

TASK = "nanobanana.drain"
SLICES = 2  # shards that a worker has at once: while the last rows of one are finished, the next one is begun
LISTEN_SECONDS = 2.0  # for a broker to stop listening
RETRY_SECONDS = 1.0  # before a broker that failed is asked again
MAX_MESSAGES = 100_000  # in the stream, about; the oldest are dropped, and sent again if they are still needed


class ShardBroker(RedisStreamBroker):
    """Streams that are read until they are told to end, and no longer.

    taskiq (0.13) cancels a reading once and waits for it, shielded; redis-py (8.1) sometimes swallows a cancellation,
    and then a worker would never leave.
    """

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """The messages. One that comes in while it ends is left to the sweepers."""
        async with aclosing(super().listen()) as messages:
            while True:
                reading = asyncio.create_task(_next(messages))
                try:
                    await asyncio.wait((reading,))
                finally:
                    with anyio.CancelScope(shield=True):
                        await end((reading,))
                    if not reading.cancelled():
                        reading.exception()  # seen, should nobody be left to raise it to
                yield reading.result()


def redis_broker(url: str, account: str) -> ShardBroker:
    """A broker on Redis Streams for one account's shards.

    One message at a time, so that a worker doesn't sit on shards that another could take; redelivered after 15 minutes,
    which is beyond any slice; its lock on redelivery ends by itself (taskiq-redis #131); the group reads from the
    beginning, or messages sent before the first worker would be lost.
    """
    return ShardBroker(
        url,
        queue_name=f"nanobanana:{{{account}}}:shards",
        consumer_group_name="nanobanana",
        consumer_id="0",
        xread_count=1,
        xread_block=1000,
        idle_timeout=15 * 60 * 1000,
        unacknowledged_lock_timeout=30.0,
        unacknowledged_batch_size=1,
        maxlen=MAX_MESSAGES,
    )


def drain_on(broker: AsyncBroker, opened: Callable[[], AbstractAsyncContextManager[Worker]] | None = None) -> Kick:
    """Register the task on a broker, and return what sends its message.

    With `opened`, the processes that `taskiq worker` starts open a worker each, keep its lease and sweep.
    """
    workers: list[Worker] = []

    @broker.task(task_name=TASK, ack_type=AcknowledgeType.WHEN_EXECUTED.value)
    async def drain(batch: str, shard: int) -> str:
        state = await workers[0].drain(batch, shard)
        if state == "open" and not workers[0].stopping:
            await tell(kick, batch, shard)
        return state

    async def kick(batch: str, shard: int) -> None:
        await drain.kiq(batch, shard)

    async def start(state: TaskiqState) -> None:
        assert opened is not None
        state.nanobanana = stack = AsyncExitStack()
        worker = await stack.enter_async_context(opened())
        workers.append(worker)
        sweeper = Sweeper(worker.book, kick, patience=15.0)
        await stack.enter_async_context(beside(worker.keep(), sweeper.run()))

    async def leave(state: TaskiqState) -> None:
        await state.nanobanana.aclose()

    if opened is not None:
        broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, start)
        broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, leave)
    return kick


@asynccontextmanager
async def open_worker(url: str, **options: Any) -> AsyncIterator[Worker]:
    """A client with the key of the environment, whose account's slots all workers share, and a worker for it."""
    account = options.pop("account", None) or account_id()
    async with (
        RedisLimiter(url, account=account) as limiter,
        Client(limiter=limiter) as client,
        Worker(client, url, account=account, **options) as worker,
    ):
        yield worker


async def serve(worker: Worker, url: str, *, slices: int = SLICES) -> None:
    """Take messages from Redis and drain their shards, until `worker.stop()` is called and what runs is at home.

    Cancelling it leaves as soon as the answers to submissions on their way are recorded. A broker that fails is asked
    again and again.

    Raises: what concerns the worker, such as AuthenticationError.
    """
    broker = redis_broker(url, worker.account)
    running: set[asyncio.Task[Any]] = set()

    @broker.task(task_name=TASK, ack_type=AcknowledgeType.WHEN_EXECUTED.value)
    async def drain(batch: str, shard: int) -> str:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            return await _drained(worker, batch, shard, kick)
        finally:
            running.discard(task)

    async def kick(batch: str, shard: int) -> None:
        await drain.kiq(batch, shard)

    async with beside(worker.keep(), Sweeper(worker.book, kick, patience=15.0).run()):
        try:
            await _listen(broker, worker, slices, running)
        finally:
            with anyio.CancelScope(shield=True):
                await end(running)
                await broker.shutdown()
    if worker.fault is not None:
        raise worker.fault


async def _drained(worker: Worker, batch: str, shard: int, kick: Kick) -> str:
    """One message. What concerns this worker alone ends it; anything else is left to the next message."""
    try:
        state = await worker.drain(batch, shard)
    except NanoBananaError as error:
        _LOGGER.warning("shard %s of batch %s: %s", shard, batch, error)
        if worker.fault is not None:
            worker.stop()
        return "failed"
    if state == "open" and not worker.stopping:
        await tell(kick, batch, shard)
    return state


async def _listen(broker: AsyncBroker, worker: Worker, slices: int, running: set[asyncio.Task[Any]]) -> None:
    """Hand messages to tasks until the worker is stopped, and what it had begun is done."""
    finish = asyncio.Event()
    worker.on_stop(finish.set)
    broker.is_worker_process = True
    while not finish.is_set():
        receiver = Receiver(broker, max_async_tasks=slices, run_startup=True)
        listening = asyncio.create_task(receiver.listen(finish))
        finishing = asyncio.create_task(finish.wait())
        try:
            await asyncio.wait((listening, finishing), return_when=asyncio.FIRST_COMPLETED)
            while running:
                await asyncio.wait(running)
            if finish.is_set():
                await asyncio.wait((listening,), timeout=LISTEN_SECONDS)
        finally:
            with anyio.CancelScope(shield=True):
                await end((listening, finishing))
        if not listening.cancelled() and (error := listening.exception()) is not None:
            _LOGGER.warning("the broker does not answer (%s); asking again", _first(error))
            with anyio.move_on_after(RETRY_SECONDS):
                await finish.wait()


async def _next(messages: AsyncIterator[AckableMessage]) -> AckableMessage:
    return await anext(messages)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
