"""Books in Redis: a turn is one script that writes if nobody else has meanwhile, and tells the book if somebody has.

The policy is not in the script: it is computed here, on the book as it was last seen, and written on the condition
that the book is still that one. Most turns are one round trip. Redis's own clock is the only one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from .._exceptions import ConfigurationError
from ._keeper import RECONNECT
from ._store import Change, StoreUnavailableError, TakeTurn
from ._turn import Turn

ANSWER_SECONDS = 5.0  # for one script
WAKE_SECONDS = 4.0  # one wait for a call to wake; shorter than an answer may take, which bounds it on the socket
KEEP_SECONDS = 86_400  # a book that nobody takes a turn at
CANCEL_SECONDS = 0.5
MOST_TRIES = 100  # of a turn that others are always faster than

# KEYS: the book, then a list for each process to wake. ARGV: the stamp of the book as it was seen (empty: none), the
# new stamp, the new text (empty: nothing to write), seconds to keep them. Answers the time, and the book if it differs.
_TURN = """
local time = redis.call('TIME')
local seen = redis.call('HGET', KEYS[1], 'stamp') or ''
if seen ~= ARGV[1] then
  return {time[1], time[2], seen, redis.call('HGET', KEYS[1], 'text') or ''}
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'stamp', ARGV[2], 'text', ARGV[3])
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
for i = 2, #KEYS do
  redis.call('DEL', KEYS[i])
  redis.call('RPUSH', KEYS[i], '.')
  redis.call('EXPIRE', KEYS[i], ARGV[4])
end
return {time[1], time[2]}
"""


class RedisStore:
    """One account's book, under keys that a cluster keeps on one node."""

    look_interval = 5.0

    def __init__(self, url: str, account: str) -> None:
        self.address = ""
        self._prefix = f"nanobanana:{{{account}}}:"
        options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_connect_timeout": ANSWER_SECONDS}
        try:
            self._redis = Redis.from_url(url, socket_timeout=2 * ANSWER_SECONDS, **options)
        except ValueError as error:
            raise ConfigurationError(f"the Redis URL can't be read: {error}") from error
        self._script = self._redis.register_script(_TURN)
        self._seen, self._text = "", ""  # the book as it was last seen, and its stamp
        self._overtaken = False  # surely, by whoever woke us
        self._ahead: float | None = None  # of the loop's clock is the server's
        self._listener: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self, holder: str, wake: Callable[[], None]) -> None:
        """Begin to listen. A server that is away is waited for."""
        self.address = holder
        self._listener = asyncio.create_task(self._listen(wake), name="nanobanana calls to wake")

    async def transact(self, take_turn: TakeTurn) -> Turn:
        """One turn, taken anew for as long as others were faster. Raises: StoreUnavailableError."""
        if self._ahead is None or self._overtaken:
            await self._run("", "", ())
        for tries in range(MOST_TRIES):
            change = Change.of(self._text or None, self._clock(), take_turn)
            if await self._run(change.stamp, change.text or "", change.wake):
                return change.turn
            await asyncio.sleep(random.uniform(0, tries / 1000))
        raise StoreUnavailableError(f"{MOST_TRIES} turns in a row were overtaken by others'")

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        self._closed = True
        while self._listener is not None and not self._listener.done():
            self._listener.cancel()  # again, should a connection that breaks at this moment hide it
            await asyncio.wait((self._listener,), timeout=CANCEL_SECONDS)
        await self._redis.aclose()

    # ---- inside

    def _clock(self) -> float:
        return asyncio.get_running_loop().time() + (self._ahead or 0.0)

    async def _run(self, stamp: str, text: str, wake: Iterable[str]) -> bool:
        """Whether the book was as it was last seen; else it is seen anew."""
        keys = [f"{self._prefix}book", *(self._wake_list(address) for address in wake)]
        sent = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._script(keys=keys, args=[self._seen, stamp, text, KEEP_SECONDS])
        except (RedisError, OSError) as error:  # a TimeoutError is one of the latter
            raise StoreUnavailableError(str(error) or type(error).__name__) from error
        self._overtaken = False
        seconds, microseconds, *seen = answer
        self._set_clock(int(seconds) + int(microseconds) / 1e6, sent)
        if seen:
            self._seen, self._text = (part.decode() for part in seen)
        elif text:
            self._seen, self._text = stamp, text
        return not seen

    def _set_clock(self, read: float, sent: float) -> None:
        """The server's clock was read at some moment since `sent`: what was known stays as far as that allows.

        By a late answer alone it would seem to go slow, and what we write down until a time would count for less.
        """
        least, most = read - asyncio.get_running_loop().time(), read - sent
        self._ahead = least if self._ahead is None else min(max(self._ahead, least), most)

    async def _listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` for each call, until closed."""
        delays = RECONNECT.delays()
        while not self._closed:
            try:
                call = await self._redis.blpop([self._wake_list(self.address)], timeout=WAKE_SECONDS)
            except (RedisError, OSError):
                await asyncio.sleep(next(delays))
                continue
            delays = RECONNECT.delays()
            if call is not None:
                self._overtaken = True
                wake()

    def _wake_list(self, address: str) -> str:
        return f"{self._prefix}wake:{address}"
