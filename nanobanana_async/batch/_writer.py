"""A thread of its own for a SQLite connection, with group commit.

Whatever waits when the thread is free goes into one transaction, so sixteen producers share one sync to disk. An
order's future is settled after its commit, never before: who gets an answer may rely on it. One that is in no hurry
may `linger` for one that is, to share its transaction and its two changes of threads.

When one order of a group fails, the group is rolled back and each is run again by itself, so that the others don't
suffer and nothing is half done. An order must therefore be repeatable; one that isn't (it drains an iterator) is run
`alone`. Cancelling a waiting producer takes nothing back: its order is run and committed like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Session: TypeAlias = Callable[[], AbstractContextManager[sqlite3.Connection]]

MAX_GROUP = 512  # orders, about; beyond some dozen the sync is paid for, and nobody should wait for too many others
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Order:
    work: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    alone: bool = False
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Wake the producer; in the loop. A cancelled one is told nothing, so a failure is at least logged."""
        if not self.future.done():
            if self.error is None:
                self.future.set_result(self.result)
            else:
                self.future.set_exception(self.error)
        elif self.error is not None:
            _log.warning("an order failed after its producer was cancelled: %s", self.error)


class Writer:
    """Runs functions of a connection, each in a transaction. `session` is entered and left in the thread.

    `explain` turns SQLite's errors into what producers should see. Belongs to the loop that started it.
    """

    def __init__(self, session: Session, *, explain: Callable[[sqlite3.Error], Exception]) -> None:
        self._session = session
        self._explain = explain
        self._orders: queue.SimpleQueue[list[_Order] | None] = queue.SimpleQueue()
        self._gathered: list[_Order] = []
        self._handing_over: asyncio.Handle | None = None
        self._due = 0.0  # when that is: uvloop's handle of a moment that has passed does not know
        self._thread = threading.Thread(target=self._live, name="nanobanana-journal", daemon=True)
        self._closing = False

    async def start(self) -> None:
        """Open the session. Raises: what the session raises."""
        self._loop = asyncio.get_running_loop()
        self._opened = _Order(_nothing, self._loop.create_future())
        self._ended = _Order(_nothing, self._loop.create_future())
        self._thread.start()
        try:
            await self._opened.future
        except BaseException:
            await self.aclose()
            raise

    def run(
        self, work: Callable[[sqlite3.Connection], T], *, alone: bool = False, linger: float = 0
    ) -> asyncio.Future[T]:
        """Run `work(connection)`; the future has its result once it is committed. Orders are run as they came.

        It waits up to `linger` seconds for others to come. The future's error is what `work` raises, and for SQLite's
        errors what `explain` makes of them; then nothing was written. Raises: RuntimeError when it is closed.
        """
        if self._closing:
            raise RuntimeError("the journal is closed")
        order = _Order(work, self._loop.create_future(), alone)
        self._gathered.append(order)
        if linger:
            self._hand_over_by(self._loop.time() + linger)
        else:
            self._hand_over()
        return order.future

    async def aclose(self) -> None:
        """Commit what is waiting, leave the session, end the thread."""
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._orders.put(None)
        try:
            await asyncio.shield(self._ended.future)
        finally:  # at once, but for a cancelled close: then the loop waits, for nobody may find the folder half closed
            self._thread.join()

    def _hand_over_by(self, due: float) -> None:
        """Hand over what is gathered, at the latest then."""
        waiting = self._handing_over
        if waiting is None or due < self._due:
            if waiting is not None:
                waiting.cancel()
            self._due = due
            self._handing_over = self._loop.call_at(due, self._hand_over)

    def _hand_over(self) -> None:
        if self._handing_over is not None:
            self._handing_over.cancel()
            self._handing_over = None
        orders, self._gathered = self._gathered, []
        if orders:
            self._orders.put(orders)

    # ---- in the thread

    def _live(self) -> None:
        try:
            with self._session() as connection:
                self._tell([self._opened])
                self._serve(connection)
        except BaseException as error:
            self._opened.error = self._explained(error)  # had it opened, this is logged: it did not close well
            self._tell([self._opened])
        self._tell([self._ended])

    def _serve(self, connection: sqlite3.Connection) -> None:
        open_ = True
        while open_:
            orders, open_ = self._collect()
            for alone, run in itertools.groupby(orders, key=lambda order: order.alone):
                for group in ([order] for order in run) if alone else [list(run)]:
                    self._commit(connection, group)

    def _collect(self) -> tuple[list[_Order], bool]:
        """All that waits, and whether more may come; blocks until there is something."""
        orders: list[_Order] = []
        while (handed := self._orders.get()) is not None:
            orders += handed
            if len(orders) >= MAX_GROUP or self._orders.empty():  # nobody else takes orders away
                return orders, True
        return orders, False

    def _commit(self, connection: sqlite3.Connection, group: list[_Order]) -> None:
        try:
            connection.execute("BEGIN")
            for order in group:
                order.result = order.work(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            _roll_back(connection)
            if len(group) > 1:
                for order in group:
                    self._commit(connection, [order])
                return
            group[0].error = self._explained(error)
        self._tell(group)

    def _explained(self, error: BaseException) -> BaseException:
        if not isinstance(error, sqlite3.Error):
            return error
        explained = self._explain(error)
        explained.__cause__ = error
        return explained

    def _tell(self, orders: list[_Order]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed over our head; the orders are committed
            self._loop.call_soon_threadsafe(_settle, orders)


def _settle(orders: list[_Order]) -> None:
    for order in orders:
        order.settle()


def _roll_back(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):  # SQLite itself rolls back after some errors, a full disk among them
        if connection.in_transaction:
            connection.rollback()


def _nothing(_: sqlite3.Connection) -> None: ...
