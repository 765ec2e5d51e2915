"""Ctrl-C, SIGTERM, readers that leave, and terminals: in processes of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import POLLS, Outcome, Running, manifest, submit

from nanobanana_async.emulator import Fault, FaultPlan, ThreadedEmulator

Spawn = Callable[..., Running]
Write = Callable[[str, str | bytes], Path]
BATCH = ("batch", "p.txt", "-o", "out", "--yes", *POLLS)


@pytest.fixture
def endless(emulator: ThreadedEmulator, write: Write) -> ThreadedEmulator:
    """Two slots, generations that end when the test says so, and a batch of four rows."""
    write("p.txt", "a\nb\nc\nd\n")
    for account in emulator.emulator.accounts:
        account.limit = 2
    emulator.emulator.duration = float("inf")
    return emulator


def go_on(emulator: ThreadedEmulator) -> None:
    """Let everything end."""
    emulator.emulator.duration = 0.02
    emulator.finish()


def left_cleanly(told: Outcome) -> None:
    """Interrupted, and no word of Python."""
    assert told.code == 130, told.err
    assert "Traceback" not in told.err
    assert "never retrieved" not in told.err


def test_first_interrupt_finishes_what_runs(
    spawn: Spawn, endless: ThreadedEmulator, batch: Callable[..., Outcome]
) -> None:
    """It says how many and about how long, submits nothing more, and the next run does the rest."""
    running = spawn(*BATCH)
    endless.until(lambda: endless.ledger.active == 2)
    running.send(signal.SIGINT)
    line = running.until("Finishing")
    assert line.startswith("Finishing 2 that run, about ")
    go_on(endless)
    told = running.end()
    left_cleanly(told)
    assert told.out.startswith("2 of 4 rows stored")
    assert "2 left; run the same command again" in told.out
    assert batch("p.txt").code == 0
    assert sorted(endless.ledger.charged_prompts()) == ["a", "b", "c", "d"]


def test_second_interrupt_leaves_at_once(
    spawn: Spawn, endless: ThreadedEmulator, batch: Callable[..., Outcome]
) -> None:
    """What runs is picked up by its id: no prompt is paid twice."""
    running = spawn(*BATCH)
    endless.until(lambda: endless.ledger.active == 2)
    running.send(signal.SIGINT)
    running.until("Finishing")
    running.send(signal.SIGINT)
    assert "2 run at the service" in running.until("Left at once")
    left_cleanly(running.end())
    go_on(endless)
    assert batch("p.txt").code == 0
    assert sorted(endless.ledger.charged_prompts()) == ["a", "b", "c", "d"]


def test_sigterm_leaves_at_once_even_without_an_answer(
    spawn: Spawn, emulator: ThreadedEmulator, write: Write, batch: Callable[..., Outcome]
) -> None:
    """The journal knows of the doubt, and the next run settles it: the prompt was charged, so it is not sent again."""
    write("p.txt", "a\n")
    emulator.faults = FaultPlan(Fault("submit", "stall", times=1))
    running = spawn(*BATCH)
    emulator.until(lambda: emulator.ledger.charges == 1)
    running.send(signal.SIGTERM)
    left_cleanly(running.end())
    planned = batch("p.txt", "--dry-run").err
    assert "1 row to be judged by the balance first" in planned
    assert "Nothing is left" not in planned
    assert batch("p.txt").code == 1
    assert (manifest()[0]["status"], emulator.ledger.charges) == ("lost", 1)


def test_interrupt_at_the_question_spends_nothing(spawn: Spawn, emulator: ThreadedEmulator, write: Write) -> None:
    """On a terminal a batch asks; Ctrl-C is a no."""
    write("p.txt", "a\n")
    keyboard, terminal = os.openpty()
    running = spawn("batch", "p.txt", "-o", "out", stdin=terminal)
    running.until("about 14 s")
    assert running.err.read(10) == "Go ahead? "
    running.send(signal.SIGINT)
    left_cleanly(running.end())
    os.close(keyboard)
    os.close(terminal)
    assert emulator.ledger.charges == 0
    assert not Path("out").exists()


def test_a_terminal_shows_a_live_bar(spawn: Spawn, emulator: ThreadedEmulator, write: Write) -> None:
    """Answered with a yes, it shows all the sums of the moment."""
    write("p.txt", "a\nb\n")
    keyboard, terminal = os.openpty()
    os.write(keyboard, b"y\n")
    running = spawn("batch", "p.txt", "-o", "out", *POLLS, stdin=terminal, stderr=terminal)
    os.close(terminal)
    shown = _read_all(keyboard)
    assert running.end().code == 0
    assert all(word in shown for word in ("━", "done, ", " running, ", " queued, ", " failed, ", " credits"))


def test_interrupted_generate_waits_for_an_answer_until_told_again(spawn: Spawn, emulator: ThreadedEmulator) -> None:
    """The answer has the id of something paid; but nobody has to wait for it."""
    emulator.faults = FaultPlan(Fault("submit", "stall"))
    running = spawn("generate", "x", "-o", "out")
    emulator.until(lambda: emulator.ledger.charges == 1)
    running.send(signal.SIGINT)
    running.until("Ctrl-C again")
    running.send(signal.SIGINT)
    told = running.end()
    left_cleanly(told)
    assert "may be running" in told.err


def test_whoever_leaves_twice_is_told_how_to_pick_up_what_is_known(spawn: Spawn, endless: ThreadedEmulator) -> None:
    """The answer with the id is in: nothing is left without it, however quickly Ctrl-C comes again."""
    running = spawn("generate", "x", "-o", "out", *POLLS)
    running.until("running, generation")
    running.send(signal.SIGINT)
    time.sleep(0.002)  # or the system makes one signal of the two
    running.send(signal.SIGINT)
    told = running.end()
    left_cleanly(told)
    assert f"nanobanana get {endless.ledger.charged()[0].generation_id} --wait -o out" in told.err
    assert "left without the answer" not in told.err


def test_interrupt_ends_every_command_that_waits(spawn: Spawn, endless: ThreadedEmulator) -> None:
    """A wait is free to leave; what is paid is named."""
    generation_id = submit(endless, "x")
    getting = spawn("get", generation_id, "--wait", *POLLS)
    generating = spawn("generate", "y", "-o", "out", *POLLS)
    demo = spawn("demo", "-o", "demo")
    generating.until("running, generation")
    demo.until("queued")
    endless.until(lambda: endless.ledger.charged()[0].polls > 0)
    for running in (getting, generating, demo):
        running.send(signal.SIGINT)
    demo.until("Ctrl-C again")
    demo.send(signal.SIGINT)
    left_cleanly(getting.end())
    left_cleanly(demo.end())
    told = generating.end()
    left_cleanly(told)
    assert f"nanobanana get {endless.ledger.charged()[1].generation_id} --wait" in told.err


def test_a_batch_outlives_its_readers(spawn: Spawn, emulator: ThreadedEmulator, write: Write) -> None:
    """`2>&1 | head -1` is no reason to drop what is paid."""
    write("p.txt", "a\nb\n")
    reading, writing = os.pipe()
    os.close(reading)
    running = spawn(*BATCH, stdout=writing, stderr=writing)
    os.close(writing)
    assert running.end().code == 0
    assert [row["status"] for row in manifest()] == ["stored", "stored"]


def _read_all(terminal: int) -> str:
    """What a process wrote to its terminal until it closed it."""
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # how Linux tells the end
        pass
    os.close(terminal)
    return shown.decode()
