"""Completion in the shells: what fits, and as quick as help."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import TELLING_WHAT_IT_LOADS
from patience import PATIENCE

PROGRAM = Path(sys.executable).with_name("nanobanana")
BASH = """
eval "$(_NANOBANANA_COMPLETE=source_bash nanobanana)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_nanobanana_completion nanobanana
printf '%s\\n' "${COMPREPLY[@]}"
"""


def ask(shell: str, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """What the shell's script asks with the cursor at the line's end; what was loaded is on stderr."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_ARGS": line}
    environment = os.environ | asked | {"_NANOBANANA_COMPLETE": f"complete_{shell}"} | more
    return subprocess.run(
        [sys.executable, "-c", TELLING_WHAT_IT_LOADS], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("nanobanana ge", ["generate", "get"]),
        ("nanobanana --ver", ["--version"]),
        ("nanobanana generate --mod", ["--model", "--mode"]),
        ("nanobanana generate x --mode ", ["async", "sync", "stream"]),
        ("nanobanana emulator --scope r", ["request"]),
        ("nanobanana batch x.txt -o ", []),  # the shell's own files
        ("nanobanana generate 'half a quo", []),
        ("nanobanana nonsense --", []),
    ],
)
def test_what_fits_is_told_without_loading_anything_heavy(line: str, found: list[str]) -> None:
    """Somebody waits with a finger on the tab key."""
    done = ask("bash", line)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == found


def test_hidden_options_stay_hidden() -> None:
    """They are there for scripts."""
    assert "--base-url" not in ask("bash", "nanobanana gallery --").stdout.split()


def test_zsh_and_fish_hear_what_it_means() -> None:
    """Both show descriptions, and complete files where nothing of ours fits."""
    assert '"get":"Look at a generation' in ask("zsh", "nanobanana ge").stdout
    assert ask("zsh", "nanobanana batch x.txt -o ").stdout == "_files\n"
    assert "--seed\tOf the durations." in ask("fish", "nanobanana emulator --se").stdout
    whether = {"_TYPER_COMPLETE_FISH_ACTION": "is-args"}
    assert ask("fish", "nanobanana ge", **whether).returncode == 0
    assert ask("fish", "nanobanana batch x.txt -o ", **whether).returncode == 1


@pytest.mark.skipif(not PROGRAM.exists() or shutil.which("bash") is None, reason="no bash, or no installed command")
def test_bash_completes() -> None:
    """The line in the README, in a real shell."""
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "--norc", "-c", BASH, "bash", "nanobanana", "generate", "--mode", "s"]
    done = subprocess.run(
        command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout.split() == ["sync", "stream"]
