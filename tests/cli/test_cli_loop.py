"""Which event loop a command runs on."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType

import pytest

from nanobanana_async.cli._loop import run_in_loop


class QuickLoop(asyncio.SelectorEventLoop):
    """What an installed uvloop would make."""


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_a_command_runs_on_uvloop_where_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `speed` is all that it takes; loops that others make stay as they were."""
    installed = ModuleType("uvloop")
    installed.new_event_loop = QuickLoop  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uvloop", installed)
    loop = run_in_loop(running_loop())
    assert type(loop) is QuickLoop
    assert loop.is_closed()
    assert type(asyncio.run(running_loop())) is not QuickLoop


def test_a_command_needs_no_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "uvloop", None)  # as if it were not installed
    assert isinstance(run_in_loop(running_loop()), asyncio.BaseEventLoop)


def test_a_command_runs_on_the_real_one() -> None:
    """Its loop is asyncio's in all that commands use."""
    uvloop = pytest.importorskip("uvloop")
    assert isinstance(run_in_loop(running_loop()), uvloop.Loop)
