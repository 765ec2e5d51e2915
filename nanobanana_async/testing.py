"""Pytest fixtures for programs that use the API: no key, no network, no credits.

In `conftest.py`: `pytest_plugins = ["nanobanana_async.testing"]`. The emulator runs in a thread, so the fixture suits
plain tests and those of any async plugin alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .emulator import ThreadedEmulator

API_KEY = "nb_test"
"""The key the fixture puts into the environment."""

GENERATION_SECONDS = 0.05
"""Long enough for a client to have to wait, short enough for a thousand tests."""


@pytest.fixture
def nanobanana_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedEmulator]:
    """A fresh emulator, to which the environment points: `NANO_BANANA_API_KEY` and `NANO_BANANA_BASE_URL`."""
    from .emulator import Emulator  # loaded with the first test that asks for it

    with Emulator(limit=4, duration=GENERATION_SECONDS).in_thread() as emulator:
        monkeypatch.setenv("NANO_BANANA_API_KEY", API_KEY)
        monkeypatch.setenv("NANO_BANANA_BASE_URL", emulator.url)
        yield emulator
