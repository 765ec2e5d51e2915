"""Brings a process's news to the book, in order, and takes its turns: one task for all of it.

News that comes up while a turn is under way goes into the next one, so the busier a store, the more each turn tells.
While the store is away, news is kept, nothing is handed out, and the store is tried again and again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

import anyio

from .._admission import Admission
from .._retry import Backoff
from ._book import Book
from ._entries import Terms
from ._store import Dead, Store, StoreUnavailableError
from ._turn import Turn

_LOGGER = logging.getLogger(__name__)

RECONNECT = Backoff(initial_delay=0.05, max_delay=1.0, jitter=0.5)
CLOSE_SECONDS = 2.0  # for the last turn; a store that takes longer finds out by itself that we are gone

News: TypeAlias = Callable[[Turn], None]


class Keeper:
    """Starts with `start`, ends with `aclose`. `known` is the book as it was after the last turn.

    `waiting` tells who waits here, `settled` is called after each turn, `failed` should the task end by an error.
    """

    def __init__(
        self,
        store: Store,
        holder: str,
        terms: Terms,
        new_admission: Callable[[], Admission],
        *,
        waiting: Callable[[], Mapping[str, float]],
        settled: Callable[[Turn], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.known: Book | None = None
        self.adopts = False
        self.away = False
        self._store = store
        self._holder = holder
        self._terms = terms
        self._new_admission = new_admission
        self._waiting = waiting
        self._settled = settled
        self._failed = failed
        self._news: list[News] = []
        self._batch: list[News] = []  # told in the turn under way, or in one whose end is not known
        self._number = 0
        self._due = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin in the running loop. Raises: ConfigurationError for a store that can't be used."""
        await self._store.open(self._holder, self.poke)
        self._task = asyncio.create_task(self._serve(), name="nanobanana shared slots")

    def tell(self, news: News) -> None:
        """Something for the book; in time, and in order."""
        self._news.append(news)
        self.poke()

    def poke(self) -> None:
        """Take a turn soon."""
        self._due.set()

    async def aclose(self) -> None:
        """Tell what is left to tell, leave the book, close the store."""
        self._closing = True
        self.poke()
        with anyio.CancelScope(shield=True):
            if self._task is not None:
                await asyncio.wait((self._task,), timeout=CLOSE_SECONDS)
                self._task.cancel()
                await asyncio.wait((self._task,))
            await self._store.aclose()

    # ---- the task

    async def _serve(self) -> None:
        try:
            while not self._closing:
                self._due.clear()
                turn = await self._next_turn()
                await self._until_due(turn.next_turn() - turn.now)
            self._begin_batch()
            await self._store.transact(self._last)
        except StoreUnavailableError:
            pass
        except Exception as error:
            _LOGGER.exception("the shared slots failed")
            self._failed(error)

    async def _next_turn(self) -> Turn:
        """A turn, as soon as the store can be reached."""
        delays = RECONNECT.delays()
        self._begin_batch()
        while True:
            try:
                turn = await self._store.transact(self._take)
            except StoreUnavailableError as error:
                self._gone(error)
                await asyncio.sleep(next(delays))
                continue
            if self.away:
                self.away = False
                _LOGGER.info("the shared slots can be reached again")
            self.known, self._batch = turn.book, []
            self._settled(turn)
            return turn

    def _begin_batch(self) -> None:
        self._batch, self._news = self._news, []
        self._number += bool(self._batch)

    async def _until_due(self, seconds: float) -> None:
        if self._waiting():
            seconds = min(seconds, self._store.look_interval)
        try:
            async with asyncio.timeout(seconds):
                await self._due.wait()
        except TimeoutError:
            pass

    def _take(self, book: Book, clock: float, dead: Dead) -> Turn:
        turn = self._turn(book, clock, dead)
        turn.queue_up(self._waiting())
        if self.adopts:
            turn.adopt()
        turn.hand_out()
        return turn

    def _last(self, book: Book, clock: float, dead: Dead) -> Turn:
        turn = self._turn(book, clock, dead)
        turn.depart()
        turn.hand_out()
        return turn

    def _turn(self, book: Book, clock: float, dead: Dead) -> Turn:
        turn = Turn(book, self._holder, clock, self._terms, self._new_admission)
        turn.begin(self._store.address, self.known, dead(book.holders))
        if turn.batch(self._number):
            for tell in self._batch:
                tell(turn)
        return turn

    def _gone(self, error: StoreUnavailableError) -> None:
        if not self.away:
            self.away = True
            _LOGGER.warning("the shared slots can't be reached, so nothing is submitted until they can: %s", error)
        if self._closing:
            raise error
