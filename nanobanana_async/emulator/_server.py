"""`Emulator`: the pieces put together behind two ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiohttp import web

from ._accounts import Account, Accounts
from ._admin import Admin
from ._api import Api
from ._clock import Clock
from ._generations import Generations
from ._ledger import Ledger
from ._origin import Origin
from ._settings import Settings

if TYPE_CHECKING:
    from ._thread import ThreadedEmulator

SHUTDOWN_SECONDS = 0.05
"""Patience with open requests at close; streams and stalls are cancelled after it."""


class Emulator(Settings):
    """The documented API as a local server. Options are those of `Settings`, all by keyword.

    async with Emulator(limit=3, duration=0.05) as emulator:
        client = Client("nb_test", base_url=emulator.url)
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.clock = Clock()
        self.ledger = Ledger(self.max_entries)
        self.accounts = Accounts(self, self.ledger)
        self._generations = Generations(self, self.ledger, self.clock)
        self._origin = Origin(self, self.ledger, self.clock)
        self._runners: list[web.AppRunner] = []
        self.url = ""

    @property
    def image_url(self) -> str:
        """The origin of the images: another port of the same host."""
        return self._origin.url

    def account(self, key: str) -> Account:
        """The account behind a key. KeyError when there is none."""
        account = self.accounts.get(key)
        if account is None:
            raise KeyError(key)
        return account

    async def start(self) -> Self:
        """Listen on both ports. `async with` does this."""
        try:
            self.url = f"{await self._listen(self._api_app(), self.port)}/api/v1"
            self._origin.url = await self._listen(self._image_app(), self.image_port)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """Cut every connection and stop; what still runs never ends."""
        self._generations.close()
        runners, self._runners = self._runners, []
        await asyncio.gather(*(runner.cleanup() for runner in runners))
        self._origin.close()

    async def serve(self, ready: Callable[[Emulator], None] | None = None) -> None:
        """Run until cancelled; `ready(emulator)` is called once the ports are open."""
        async with self:
            if ready is not None:
                ready(self)
            await asyncio.get_running_loop().create_future()

    def in_thread(self) -> ThreadedEmulator:
        """This emulator on a loop of its own, in a thread: `with Emulator(limit=3).in_thread() as emulator`."""
        from ._thread import ThreadedEmulator

        return ThreadedEmulator(self)

    async def idle(self) -> None:
        """Wait until no generation runs."""
        await self.until(lambda: self.ledger.active == 0)

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait until `predicate()` holds, asked at every change: `until(lambda: emulator.ledger.active == 3)`."""
        await self.ledger.until(predicate)

    def finish(self, generation_id: str | None = None) -> None:
        """End one running generation now, or all of them. KeyError when that one does not run."""
        if generation_id is None:
            self._generations.finish_all()
        else:
            self._generations.finish(generation_id)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _api_app(self) -> web.Application:
        app = web.Application(client_max_size=0)  # the API's own 413 speaks JSON
        app.add_routes(Api(self, self.accounts, self._generations, self.ledger, self._origin).routes())
        app.add_routes([web.get("/images/{name}", self._origin.serve_relative)])
        app.add_routes(Admin(self).routes())
        return app

    def _image_app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/images/{name}", self._origin.serve)])
        return app

    async def _listen(self, app: web.Application, port: int) -> str:
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS)
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, self.host, port).start()
        return f"http://{self.host}:{runner.addresses[0][1]}"

    def __repr__(self) -> str:
        return f"<Emulator {self.url or 'not started'} {self.ledger!r}>"
