"""Whatever is wrong: one readable message with what to do next, the right exit code, and nothing spent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import KEY, Outcome

from nanobanana_async.emulator import Fault, FaultPlan, ThreadedEmulator

Run = Callable[..., Outcome]
Write = Callable[[str, str | bytes], Path]
COMMANDS = (("credits",), ("generate", "x", "-o", "out"), ("batch", "p.txt", "-o", "out", "--yes"))


def refused(told: Outcome, code: int, *words: str) -> None:
    """The code, and one message on stderr that has these words; no data, no traceback, no key."""
    assert told.code == code, told.err
    errors = [line for line in told.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, told.err
    assert all(word in errors[0] for word in words), errors
    assert "Traceback" not in told.err
    assert KEY not in told.err + told.out
    assert told.out == ""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.txt", "", ("empty.txt", "write at least one")),
        ("blank.txt", "\n \n", ("blank.txt", "write at least one")),
        ("bad.jsonl", '{"prompt": "a"}\n{"prompt":\n', ("bad.jsonl, line 2", "fix the line")),
        ("list.jsonl", "[1]\n", ("list.jsonl, line 1",)),
        ("latin.txt", b"a\ncaf\xe9\n", ("latin.txt, line 2", "UTF-8")),
        ("blank.jsonl", '{"prompt": "a"}\n{"prompt": "  "}\n', ("blank.jsonl, line 2", "prompt")),
        ("none.jsonl", '{"prompt": "a", "quantity": 0}\n', ("none.jsonl, line 1", "quantity")),
        ("model.jsonl", '{"prompt": "a"}\n{"prompt": "b", "model": "nope"}\n', ("model.jsonl, line 2", "'nope'")),
        ("open.csv", 'prompt\na\n"b\n', ("open.csv, line 3", "quote")),
        ("ref.jsonl", '{"prompt": "a", "reference_images": ["no.png"]}\n', ("ref.jsonl, line 1", "no.png")),
        ("prompts.doc", "a\n", ("prompts.doc", ".jsonl")),
    ],
)
def test_bad_input_names_file_and_line(
    batch: Run, write: Write, emulator: ThreadedEmulator, name: str, content: str | bytes, words: tuple[str, ...]
) -> None:
    """The whole input is read before anything is spent, and no folder is left."""
    refused(batch(write(name, content)), 2, *words)
    assert emulator.ledger.charges == 0
    assert not Path("out").exists()


def test_missing_input_is_named(batch: Run, emulator: ThreadedEmulator) -> None:
    """So is a folder in its place."""
    refused(batch("nosuch.txt"), 2, "nosuch.txt", "check the path")
    refused(batch("."), 2, "folder")


def test_bad_standard_input_is_named(batch: Run, emulator: ThreadedEmulator) -> None:
    """It has lines as well."""
    refused(batch("-", stdin=b'{"prompt": "a"}\n{"prompt": 1}\n'), 2, "standard input, line 2")


def test_changed_input_is_refused_by_line(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """A batch is never silently mixed with another."""
    batch(write("p.txt", "a\nb\n"))
    refused(batch(write("p.txt", "a\nz\n")), 2, "line 2", "differs")
    assert emulator.ledger.charged_prompts() == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("  ",), ("blank",)),
        (("x", "-m", "nope"), ("nope",)),
        (("x", "-a", "2:1"), ("2:1",)),
        (("x", "-r", "no.png"), ("no.png",)),
    ],
)
def test_a_bad_request_is_2(
    run: Run, emulator: ThreadedEmulator, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Here or at the service, which charges nothing for it."""
    refused(run("generate", *arguments, "-o", "out"), 2, *words)
    assert emulator.ledger.charges == 0


@pytest.mark.parametrize("folder", ["/proc/nanobanana", "a_file/out"])
@pytest.mark.parametrize("command", [("generate", "x"), ("batch", "p.txt", "--yes")])
def test_an_unwritable_folder_is_2(
    run: Run, write: Write, emulator: ThreadedEmulator, command: tuple[str, ...], folder: str
) -> None:
    """Known before anything is spent."""
    write("p.txt", "a\n")
    write("a_file", "")
    refused(run(*command, "-o", folder), 2, folder, "-o")
    assert emulator.ledger.charges == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_no_key_is_3(run: Run, write: Write, command: tuple[str, ...], emulator: Any, monkeypatch: Any) -> None:
    """And there is a way to try it without one."""
    monkeypatch.delenv("NANO_BANANA_API_KEY")
    write("p.txt", "a\n")
    refused(run(*command), 3, "NANO_BANANA_API_KEY", "nanobanana demo")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_key_is_3(run: Run, write: Write, command: tuple[str, ...], emulator: Any, monkeypatch: Any) -> None:
    """It is not repeated."""
    monkeypatch.setenv("NANO_BANANA_API_KEY", "nb_wrong_one")
    write("p.txt", "a\n")
    told = run(*command)
    refused(told, 3, "401", "check the API key")
    assert "nb_wrong_one" not in told.err
    assert not Path("out").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_access_is_3(
    run: Run, write: Write, command: tuple[str, ...], emulator: ThreadedEmulator, account: Any
) -> None:
    """The account has to be opened for the API first."""
    account.access = False
    write("p.txt", "a\n")
    refused(run(*command), 3, "403", "enable API access")


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_no_credits_is_4(
    run: Run, write: Write, command: tuple[str, ...], emulator: ThreadedEmulator, account: Any
) -> None:
    """The account has to be topped up."""
    account.credits = 0
    write("p.txt", "a\n")
    refused(run(*command), 4, "credits", "top")
    assert emulator.ledger.charges == 0


def test_a_wall_in_front_is_3(run: Run, emulator: ThreadedEmulator) -> None:
    """An HTML page is not shown; what it means is."""
    emulator.faults = FaultPlan(Fault("submit", "html_wall"))
    told = run("generate", "x", "-o", "out")
    refused(told, 3, "firewall")
    assert "<html" not in told.err


def test_a_wall_in_the_middle_keeps_what_ran(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """What is paid comes home; the rest is left for a run without the wall."""
    emulator.faults = FaultPlan(Fault("submit", "html_wall", after=2))
    told = batch(write("p.txt", "a\nb\nc\n"))
    assert told.code == 3
    assert told.out.startswith("2 of 3 rows stored")
    emulator.faults = FaultPlan()
    assert batch("p.txt").code == 0
    assert emulator.ledger.charges == 3


def test_an_unusable_base_url_is_2(run: Run, emulator: ThreadedEmulator) -> None:
    """Before any request."""
    refused(run("credits", "--base-url", "ftp://x"), 2, "base URL")


def test_verbose_never_tells_the_key(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """`-v` is what people paste into reports."""
    emulator.faults = FaultPlan(Fault("poll", "error_500", times=2), Fault("image", "truncate", times=1))
    told = batch(write("p.txt", "a\nb [fail]\n"), "-v")
    assert "nanobanana_async" in told.err
    assert KEY not in told.err + told.out
    assert not any(KEY.encode() in file.read_bytes() for file in Path("out").rglob("*") if file.is_file())


def test_an_unexpected_error_has_no_traceback(run: Run, emulator: ThreadedEmulator, monkeypatch: Any) -> None:
    """Our bugs are messages as well; `-v` has the rest."""
    monkeypatch.setattr("nanobanana_async.cli._look.out", lambda value: {}["gone"])
    refused(run("credits"), 1, "unexpected KeyError")
    assert "Traceback" in run("credits", "-v").err
