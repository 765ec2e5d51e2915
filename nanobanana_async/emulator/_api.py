"""The documented API over HTTP: one handler per endpoint, and the border that turns refusals into responses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

from . import _answers, _refusals, _strikes
from ._accounts import Account, Accounts
from ._faults import Fault, Stage
from ._generations import Generations
from ._ledger import Entry, Ledger
from ._orders import Order
from ._origin import Origin
from ._refusals import RefusedError
from ._settings import Settings
from ._sse import Narrator

Handler = Callable[[web.Request, Account], Awaitable[web.StreamResponse]]


class Api:
    """Everything below `/api/v1`."""

    def __init__(
        self, settings: Settings, accounts: Accounts, generations: Generations, ledger: Ledger, origin: Origin
    ) -> None:
        self._settings = settings
        self._accounts = accounts
        self._generations = generations
        self._ledger = ledger
        self._origin = origin
        self._narrator = Narrator(settings, generations, origin)

    def routes(self) -> list[web.RouteDef]:
        """For `Application.add_routes`."""
        return [
            web.post("/api/v1/generate", self._border("POST /generate", self._submit)),
            web.get("/api/v1/generate", self._border("GET /generate", self._poll)),
            web.get("/api/v1/credits", self._border("GET /credits", self._credits)),
            web.get("/api/v1/models", self._models),
        ]

    def _border(self, endpoint: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self._ledger.requests[endpoint] += 1
            account = None
            try:
                account = self._accounts.authenticate(request.headers.get("Authorization"))
                response = await handler(request, account)
            except RefusedError as refusal:
                response = self._refuse(refusal)
            if account is not None and not response.prepared and response.content_type != "text/html":  # a wall
                response.headers.update(self._announcement(account, response.status))
            return response

        return handle

    async def _submit(self, request: web.Request, account: Account) -> web.StreamResponse:
        with self._accounts.open_request(account):
            order = Order.from_json(await self._body(request), self._settings)
            fault = self._settings.faults.draw("submit", order.prompt)
            if fault is not None and fault.kind == "reset_late":
                self._accept_later(account, order, fault.stall_seconds or 0.0)
                return _strikes.reset(request)
            if struck := _strikes.before(fault, request, account.limit, account.active):
                return struck
            entry = self._accept(account, order, fault)
            await asyncio.sleep(self._settings.latency)
            if struck := await _strikes.instead(fault, request):
                return struck
            if order.mode == "stream":
                return await self._stream(request, account, entry)
            return await _strikes.cut(fault, request, await self._told(account, order, entry))

    def _accept_later(self, account: Account, order: Order, delay: float) -> None:
        """As a service does behind a proxy that gave up on it."""

        def accept() -> None:
            with suppress(RefusedError):
                self._generations.accept(account, order)

        asyncio.get_running_loop().call_later(delay, accept)

    def _accept(self, account: Account, order: Order, fault: Fault | None) -> Entry:
        kind = fault and fault.kind
        return self._generations.accept(account, order, busy=kind == "busy", failing=kind == "fail_generation")

    async def _told(self, account: Account, order: Order, entry: Entry) -> web.Response:
        as_async = order.mode == "async" or self._settings.sync_as_async
        if as_async and entry.state != "rejected":
            return _json(_answers.started(entry, account.credits))
        await self._generations.wait(entry)
        body = _answers.outcome(entry, await self._origin.urls(entry), account.credits)
        return _json(body, 500 if entry.state == "failed" else 200)

    async def _stream(self, request: web.Request, account: Account, entry: Entry) -> web.StreamResponse:
        fault = self._settings.faults.draw("stream", entry.prompt)
        response = web.StreamResponse(headers=self._announcement(account, 200))
        return await self._narrator.tell(request, response, account, entry, fault)

    async def _poll(self, request: web.Request, account: Account) -> web.StreamResponse:
        with self._accounts.open_request(account):
            entry = self._ledger.find(request.query.get("id", ""))

            async def answer() -> web.Response:
                await asyncio.sleep(self._settings.latency)
                if entry is None or entry.account != account.name or entry.status == "refunded":
                    raise _refusals.not_found()
                entry.polls += 1
                urls = await self._origin.urls(entry)
                return _json(_answers.record(entry, urls, single_url=self._settings.single_url))

            return await self._under_faults(request, "poll", answer, account, entry.prompt if entry else "")

    async def _credits(self, request: web.Request, account: Account) -> web.StreamResponse:
        async def answer() -> web.Response:
            return _json({"data": {"credits": account.credits}})

        return await self._under_faults(request, "credits", answer, account)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        async def answer() -> web.Response:
            return _json({"data": [model.as_json() for model in self._settings.models]})

        self._ledger.requests["GET /models"] += 1
        try:
            return await self._under_faults(request, "models", answer)
        except RefusedError as refusal:
            return self._refuse(refusal)

    async def _under_faults(
        self,
        request: web.Request,
        stage: Stage,
        answer: Callable[[], Awaitable[web.Response]],
        account: Account | None = None,
        prompt: str = "",
    ) -> web.StreamResponse:
        fault = self._settings.faults.draw(stage, prompt)
        if fault is not None and fault.kind == "busy":
            raise _refusals.server_busy(self._ledger.active)
        if fault is not None and fault.kind == "expire":
            raise _refusals.not_found()
        limit, active = (account.limit, account.active) if account else (None, 0)
        if struck := _strikes.before(fault, request, limit, active) or await _strikes.instead(fault, request):
            return struck
        return await _strikes.cut(fault, request, await answer())

    async def _body(self, request: web.Request) -> object:
        if (request.content_length or 0) > self._settings.max_body:
            raise _refusals.too_large()
        body = await request.read()
        if len(body) > self._settings.max_body:
            raise _refusals.too_large()
        try:
            return json.loads(body)
        except ValueError:
            raise _refusals.bad_request("Request body must be valid JSON") from None

    def _announcement(self, account: Account, status: int) -> dict[str, str]:
        announce = self._settings.announce
        if account.limit is None or announce == "never" or (announce == "refusals" and status != 429):
            return {}
        itself = account.scope == "request" and self._settings.counts_itself
        return {"X-RateLimit-Limit": str(account.limit), "X-RateLimit-Active": str(account.active + itself)}

    def _refuse(self, refusal: RefusedError) -> web.Response:
        body, headers = refusal.body, {}
        if refusal.status in (429, 503):
            self._ledger.refusals[refusal.status] += 1
            self._ledger.changed()
            if self._settings.retry_after is not None:
                headers["Retry-After"] = f"{self._settings.retry_after:g}"
        if refusal.status == 429 and self._settings.announce == "never":
            body = {name: body[name] for name in ("error", "type")}
            headers.clear()
        return _json(body, refusal.status, headers)


def _json(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=status, headers=headers, content_type="application/json")
