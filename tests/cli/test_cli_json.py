"""`--json` of a command that fails: one object on stdout for programs, the words on stderr, the same exit code."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import KEY, POLLS, Outcome, Running, submit

from nanobanana_async.emulator import Fault, FaultPlan, ThreadedEmulator

Run = Callable[..., Outcome]
FIELDS = {"type", "message", "retryable", "retry_after", "generation_id", "credits_used", "status_code"}


def failure(told: Outcome, code: int, kind: str) -> dict[str, Any]:
    """The error that stdout tells, after a look at what holds for all of them."""
    assert told.code == code, told.err
    error = json.loads(told.out)["error"]
    assert set(error) == FIELDS
    assert error["type"] == kind
    assert KEY not in told.out
    return dict(error)


@pytest.mark.parametrize("command", [("credits",), ("generate", "x", "-o", "out"), ("get", "clx9")])
def test_a_refusal_is_an_object(run: Run, emulator: ThreadedEmulator, account: Any, command: tuple[str, ...]) -> None:
    """All fields, null where nothing is known; the message is the one that people read."""
    account.access = False
    told = run(*command, "--json")
    error = failure(told, 3, "PermissionDeniedError")
    assert error["status_code"] == 403
    assert error["retryable"] is False
    assert error["generation_id"] is None
    assert f"Error: {error['message']}\n" in told.err


def test_a_failed_generation_tells_id_and_cost(run: Run, emulator: ThreadedEmulator) -> None:
    """It was charged."""
    error = failure(run("generate", "x [fail]", "-o", "out", "--json", *POLLS), 1, "GenerationFailedError")
    assert error["generation_id"] == emulator.ledger.charged()[0].generation_id
    assert error["credits_used"] == 1


def test_an_image_that_cannot_be_had_tells_of_its_generation(run: Run, emulator: ThreadedEmulator) -> None:
    """It is paid, and in the program's books."""
    emulator.faults = FaultPlan(Fault("image", "expire"))
    error = failure(run("generate", "x", "-o", "out", "--json", *POLLS), 1, "DownloadExpiredError")
    assert error["generation_id"] == emulator.ledger.charged()[0].generation_id


def test_a_lost_answer_is_told_as_uncertain(run: Run, emulator: ThreadedEmulator) -> None:
    """A program must not simply run the command again."""
    emulator.faults = FaultPlan(Fault("submit", "reset_after"))
    error = failure(run("generate", "x", "-o", "out", "--json", *POLLS), 1, "SubmissionUncertainError")
    assert error["retryable"] is False


def test_what_get_finds_failed_is_told_beside_its_record(run: Run, emulator: ThreadedEmulator) -> None:
    """The record was found, so it is printed as always."""
    generation_id = submit(emulator, "x [fail]")
    failure(run("get", generation_id, "--wait", "--json", *POLLS), 1, "GenerationFailedError")
    told = run("get", generation_id, "--json")
    assert failure(told, 1, "GenerationFailedError")["generation_id"] == generation_id
    assert json.loads(told.out)["status"] == "failed"


def test_models_of_no_server_tell_that_nothing_was_sent(run: Run) -> None:
    """And that it may be tried again."""
    told = run("models", "--json", "--base-url", "http://127.0.0.1:1/api/v1")
    assert failure(told, 1, "ConnectError")["retryable"] is True


def test_a_missing_key_has_a_name_of_the_tree(run: Run) -> None:
    """Types are those that Python programs catch."""
    failure(run("credits", "--json"), 3, "ConfigurationError")


@pytest.mark.parametrize("arguments", [("generate", "--json"), ("get", "x", "--json", "--nosuch")])
def test_bad_usage_is_an_object_too(run: Run, arguments: tuple[str, ...]) -> None:
    """A program that reads stdout always finds one."""
    told = run(*arguments)
    error = failure(told, 2, "UsageError")
    assert error["message"] in told.err


def test_an_unexpected_error_is_an_object(run: Run, emulator: ThreadedEmulator, monkeypatch: Any) -> None:
    """Our bugs as well."""
    monkeypatch.setattr("nanobanana_async.cli._look.Client.credits", lambda self: {}["gone"])
    assert failure(run("credits", "--json"), 1, "KeyError")["message"] == "'gone'"


def test_a_disk_error_is_an_object(run: Run, emulator: ThreadedEmulator, monkeypatch: Any) -> None:
    """Those of the system are told by their own name."""

    def no_space(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr("nanobanana_async.cli._generate.output_folder", no_space)
    error = failure(run("generate", "x", "-o", "out", "--json"), 1, "OSError")
    assert error["message"] == "No space left on device: out"


def test_what_is_interrupted_tells_what_runs_on(spawn: Callable[..., Running], emulator: ThreadedEmulator) -> None:
    """It is paid: the program learns the id."""
    emulator.emulator.duration = float("inf")
    running = spawn("generate", "x", "-o", "out", "--json", *POLLS)
    running.until("running, generation")
    running.send(signal.SIGINT)
    error = failure(running.end(), 130, "JobCancelledError")
    assert error["generation_id"] == emulator.ledger.charged()[0].generation_id
    assert error["credits_used"] == 1
