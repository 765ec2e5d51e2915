"""The admin API, outside `/api/v1` and without a key: the ledger told, and the screws to turn, as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ._accounts import Account
from ._clock import isoformat
from ._faults import FaultPlan

if TYPE_CHECKING:
    from ._server import Emulator

PAGE = 1000
"""Entries told at once, unless `limit` says otherwise."""

_SETTABLE: dict[str, tuple[type, ...]] = {"credits": (int,), "limit": (int, type(None)), "access": (bool,)}


class Admin:
    """Everything below `/admin`."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def routes(self) -> list[web.RouteDef]:
        """For `Application.add_routes`."""
        return [
            web.get("/admin/ledger", _told(self._ledger)),
            web.get("/admin/statistics", _told(self._statistics)),
            web.get("/admin/accounts", _told(self._accounts)),
            web.patch("/admin/accounts/{key}", _told(self._account)),
            web.post("/admin/accounts/{key}/keys", _told(self._add_key)),
            web.post("/admin/clock", _told(self._clock)),
            web.put("/admin/faults", _told(self._faults)),
        ]

    async def _ledger(self, request: web.Request) -> Any:
        first, most = int(request.query.get("offset", 0)), int(request.query.get("limit", PAGE))
        entries = islice(self._emulator.ledger.entries, first, first + most)
        return {"entries": [dataclasses.asdict(entry) for entry in entries], **await self._statistics(request)}

    async def _statistics(self, request: web.Request) -> dict[str, Any]:
        ledger = self._emulator.ledger
        return {
            "charges": ledger.charges,
            "credits_charged": ledger.credits_charged,
            "credits_refunded": ledger.credits_refunded,
            "active": ledger.active,
            "peak_active": ledger.peak_active,
            "peak_active_by_account": ledger.peak_active_by_account,
            "open_requests": ledger.open_requests,
            "peak_open_requests": ledger.peak_open_requests,
            "states": ledger.states,
            "requests": ledger.requests,
            "refusals": ledger.refusals,
            "faults_fired": self._emulator.faults.fired,
            "image_authorization_seen": ledger.image_authorization_seen,
        }

    async def _accounts(self, request: web.Request) -> Any:
        return {"accounts": [_account(account) for account in self._emulator.accounts]}

    async def _account(self, request: web.Request) -> Any:
        account = self._emulator.account(request.match_info["key"])
        changes = _changes(await request.json())
        for name, value in changes.items():
            setattr(account, name, value)
        return _account(account)

    async def _add_key(self, request: web.Request) -> Any:
        account = self._emulator.account(request.match_info["key"])
        account.add_key((await request.json())["key"])
        return _account(account)

    async def _clock(self, request: web.Request) -> Any:
        self._emulator.clock.advance(float((await request.json())["advance"]))
        return {"now": isoformat(self._emulator.clock.now())}

    async def _faults(self, request: web.Request) -> Any:
        plan = await request.json()
        self._emulator.faults = FaultPlan.from_json(plan["faults"], plan.get("seed", 0))
        return {"faults": len(plan["faults"])}


def _told(handler: Callable[[web.Request], Awaitable[Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Turn what a handler returns, or raises about its input, into JSON."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await handler(request))
        except KeyError as exc:
            return web.json_response({"error": f"not found: {exc}"}, status=404)
        except (TypeError, ValueError) as exc:
            return web.json_response({"error": str(exc)}, status=400)

    return handle


def _changes(body: Any) -> dict[str, Any]:
    """The body of a PATCH, checked whole before anything is set. ValueError on nonsense."""
    if not isinstance(body, dict):
        raise ValueError("expected a JSON object")
    for name, value in body.items():
        if type(value) not in _SETTABLE.get(name, ()):  # not isinstance: true is no limit
            raise ValueError(f"cannot set {name} to {value!r}")
    return body


def _account(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "keys": account.keys,
        "credits": account.credits,
        "limit": account.limit,
        "scope": account.scope,
        "access": account.access,
        "active": account.active,
    }
