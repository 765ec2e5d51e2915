"""An emulator on its own loop in a thread, for programs that are not async."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from ._accounts import Account
    from ._clock import Clock
    from ._faults import FaultPlan
    from ._ledger import Ledger
    from ._server import Emulator

WAIT_SECONDS = 30.0
"""How long `idle` and `until` wait before they raise TimeoutError."""


class ThreadedEmulator:
    """A sync context manager around an `Emulator`, which stays reachable as `.emulator`.

    Reading the ledger and setting plain options from another thread is safe; anything that touches a timer
    goes through the loop.
    """

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._thread = threading.Thread(target=self._run, name="emulator", daemon=True)
        self._ready: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._stop = asyncio.Event()

    @property
    def url(self) -> str:
        """Base URL for clients."""
        return self.emulator.url

    @property
    def image_url(self) -> str:
        """The origin of the images."""
        return self.emulator.image_url

    @property
    def ledger(self) -> Ledger:
        """What happened."""
        return self.emulator.ledger

    @property
    def clock(self) -> Clock:
        """The wall clock, to be moved."""
        return self.emulator.clock

    @property
    def faults(self) -> FaultPlan:
        """What goes wrong; may be set."""
        return self.emulator.faults

    @faults.setter
    def faults(self, faults: FaultPlan) -> None:
        self.emulator.faults = faults

    def account(self, key: str) -> Account:
        """The account behind a key. KeyError when there is none."""
        return self.emulator.account(key)

    def idle(self, timeout: float = WAIT_SECONDS) -> None:
        """Wait until no generation runs."""
        self._call(self.emulator.idle(), timeout)

    def until(self, predicate: Callable[[], bool], timeout: float = WAIT_SECONDS) -> None:
        """Wait until `predicate()` holds; it is asked in the emulator's thread."""
        self._call(self.emulator.until(predicate), timeout)

    def finish(self, generation_id: str | None = None) -> None:
        """End one running generation now, or all of them."""

        async def finish() -> None:
            self.emulator.finish(generation_id)

        self._call(finish(), WAIT_SECONDS)

    def start(self) -> Self:
        """Start the thread and wait until the ports are open. `with` does this."""
        self._thread.start()
        self._ready.result()
        return self

    def close(self) -> None:
        """Stop the server and join its thread."""
        self._ready.result().call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        try:
            await self.emulator.start()
        except BaseException as exc:
            self._ready.set_exception(exc)
            return
        self._ready.set_result(asyncio.get_running_loop())
        await self._stop.wait()
        await self.emulator.aclose()

    def _call(self, work: Coroutine[Any, Any, None], timeout: float) -> None:
        async def limited() -> None:
            async with asyncio.timeout(timeout):
                await work

        asyncio.run_coroutine_threadsafe(limited(), self._ready.result()).result()
