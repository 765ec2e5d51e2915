"""Help: quick, complete, and no wider than 80 columns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from commands import TELLING_WHAT_IT_LOADS, Outcome
from patience import PATIENCE

from nanobanana_async import __version__

COMMANDS = ("generate", "batch", "gallery", "demo", "get", "models", "credits", "emulator", "worker")


@pytest.mark.parametrize("arguments", [("--help",), ("batch", "--help")])
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    """Help is what people wait for most often."""
    command = [sys.executable, "-c", TELLING_WHAT_IT_LOADS, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert "Usage:" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(run: Callable[..., Outcome], command: str) -> None:
    """A terminal is 80 columns wide until it is made wider."""
    told = run(*filter(None, [command]), "--help")
    assert told.code == 0
    assert max(map(len, told.out.splitlines())) <= 80
    assert "{" not in told.out


def test_help_names_every_command_and_exit_code(run: Callable[..., Outcome]) -> None:
    """The first screen is all that many people read."""
    told = run("--help").out
    assert all(f"\n  {command} " in told for command in COMMANDS)
    assert all(code in told for code in ("0  all stored", "3  key or access", "4  credits", "130  interrupted"))


def test_version_is_the_package_s(run: Callable[..., Outcome]) -> None:
    """`--version` prints it and leaves."""
    assert __version__ in run("--version").out


def test_wrong_usage_is_2_and_says_where_help_is(run: Callable[..., Outcome]) -> None:
    """Typos are the commonest error."""
    for arguments in (("genrate",), ("generate",), ("generate", "x", "-n", "0"), ("batch", "x.txt")):
        told = run(*arguments)
        assert told.code == 2
        assert "Try 'nanobanana" in told.err
        assert told.out == ""
