"""Commands of one user share the account's slots, with nothing to set up; where they can't, they run all the same."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import KEY, POLLS, Outcome, Running, manifest

from nanobanana_async.emulator import ThreadedEmulator

Run = Callable[..., Outcome]
Spawn = Callable[..., Running]
Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def slow(emulator: ThreadedEmulator) -> ThreadedEmulator:
    """One slot, and generations that end when the test says so."""
    emulator.account(KEY).limit = 1
    emulator.emulator.duration = float("inf")
    return emulator


def go_on(emulator: ThreadedEmulator) -> None:
    """Let everything end."""
    emulator.emulator.duration = 0.02
    emulator.finish()


def test_two_terminals_have_one_limit(spawn: Spawn, emulator: ThreadedEmulator, write: Write) -> None:
    """Two batches at once: never above it, and nothing is refused."""
    emulator.account(KEY).limit = 2
    emulator.emulator.duration = math.inf
    for name in ("one", "two"):
        write(f"{name}.txt", "".join(f"{name} {number}\n" for number in range(8)))
    running = [spawn("batch", f"{name}.txt", "-o", name, "--yes", *POLLS) for name in ("one", "two")]
    emulator.until(lambda: emulator.ledger.active == 2)
    go_on(emulator)
    told = [batch.end() for batch in running]
    assert [batch.code for batch in told] == [0, 0], told
    assert emulator.ledger.peak_active == 2
    assert emulator.ledger.refusals.total() <= 1  # both may ask before either has heard of the limit
    assert emulator.ledger.charges == 16


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_slot_is_taken_for_as_long_as_what_a_command_left_behind_runs(
    spawn: Spawn, slow: ThreadedEmulator, write: Write, end: signal.Signals
) -> None:
    """However it ended: the next one looks after it, and waits."""
    write("p.txt", "left behind\n")
    first = spawn("batch", "p.txt", "-o", "out", "--yes", *POLLS)
    slow.until(lambda: bool(slow.ledger.entries) and slow.ledger.entries[0].polls > 0)
    first.send(end)
    first.end()
    second = spawn("generate", "a fox", "-o", "fox", *POLLS)
    polls = slow.ledger.entries[0].polls
    slow.until(lambda: slow.ledger.entries[0].polls > polls)
    go_on(slow)
    assert second.end().code == 0
    assert slow.ledger.refusals.total() <= 1  # one question is allowed: what holds a slot
    assert slow.ledger.charged_prompts() == ["left behind", "a fox"]


@pytest.mark.parametrize("verbose", [False, True])
def test_without_a_place_to_share_in_a_command_runs_alone(
    run: Run, emulator: ThreadedEmulator, monkeypatch: pytest.MonkeyPatch, write: Write, verbose: bool
) -> None:
    """One line says so, to those who ask."""
    monkeypatch.setenv("XDG_STATE_HOME", str(write("no-folder", "")))
    write("p.txt", "a\nb\n")
    told = run("batch", "p.txt", "-o", "out", "--yes", *POLLS, *(["-v"] if verbose else []))
    assert told.code == 0
    assert told.err.count("slots are not shared with other commands") == verbose
    assert [row["status"] for row in manifest()] == ["stored", "stored"]


def test_reading_commands_leave_nothing_behind(run: Run, emulator: ThreadedEmulator) -> None:
    """They take no slot."""
    assert run("credits").code == 0
    assert run("models").code == 0
    assert not Path(".state").exists()
