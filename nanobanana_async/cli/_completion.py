"""Shell completion as quick as --help. The scripts for the shells are typer's, and so is what they ask with:

    eval "$(_NANOBANANA_COMPLETE=source_bash nanobanana)"

Each press of the tab key starts a process. Typer's own answer loads pydantic to read what stands before the cursor,
and rich for the descriptions, which takes three times as long as looking at the commands and their options.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import typer

from ._app import command

ASKED = "_NANOBANANA_COMPLETE"  # `source_bash` asks for the script, `complete_bash` for what fits
_HELP = "-h", "--help"

Found = Mapping[str, str]  # what fits, and what it means


def complete(asked: str) -> int | None:
    """Answer a shell on stdout; the exit code, or None for what is left to typer."""
    instruction, _, shell = asked.partition("_")
    if instruction != "complete" or shell not in _TOLD:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # what `add_completion` calls

        completion_init()
        return None
    *before, incomplete = _words(shell)
    found = matching(before, incomplete)
    print(_TOLD[shell](found))
    asks_whether = os.environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args"
    return int(asks_whether and not found)


def matching(before: Sequence[str], incomplete: str) -> Found:
    """Commands, options or values that begin with `incomplete`; nothing where a file's name or free text goes."""
    name = next((word for word in before if not word.startswith("-")), None)
    group = command()
    if name is None:
        offered = _options(group) if incomplete.startswith("-") else _commands(group)
    elif name not in group.commands:
        offered = {}
    else:
        offered = _of_command(group.commands[name], before[-1], incomplete)
    return {value: text for value, text in offered.items() if value.startswith(incomplete)}


# ---- what there is


def _commands(group: Any) -> Found:
    return {name: made.get_short_help_str(60) for name, made in group.commands.items() if not made.hidden}


def _of_command(made: Any, last: str, incomplete: str) -> Found:
    parameter = next((option for option in made.params if last in option.opts), None)
    if parameter is not None and last.startswith("-") and not parameter.is_flag:
        return dict.fromkeys(_values(made, parameter, incomplete), "")
    return _options(made) if incomplete.startswith("-") else {}


def _options(made: Any) -> Found:
    shown = (option for option in made.params if not getattr(option, "hidden", False))
    told = {name: option.help or "" for option in shown for name in option.opts if name.startswith("-")}
    return told | dict.fromkeys(_HELP, "Show this message and exit.")


def _values(made: Any, parameter: Any, incomplete: str) -> Iterator[str]:
    """Those that an option chooses from; files are the shell's own business."""
    items = parameter.shell_complete(typer.Context(made), incomplete)
    return (item.value for item in items if item.type == "plain")


# ---- what shells ask with, and want to hear


def _words(shell: str) -> list[str]:
    """Those after the program's name up to the cursor; the last one is incomplete, perhaps empty."""
    if shell == "bash":
        words, place = _split(os.environ["COMP_WORDS"]), int(os.environ["COMP_CWORD"])
        return [*words[1:place], words[place] if place < len(words) else ""]
    line = os.environ.get("_TYPER_COMPLETE_ARGS", "")
    words = _split(line)[1:]
    return words if words and not line.endswith(" ") else [*words, ""]


def _split(line: str) -> list[str]:
    """As a shell does; a quotation that is still open is no reason to find nothing."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=False)
    reader.whitespace_split, reader.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(reader)
    except ValueError:
        words.append(reader.token)
    return words


def _bash(found: Found) -> str:
    return "\n".join(found)


def _zsh(found: Found) -> str:
    """Evaluated inside single quotes, hence the doubling."""
    if not found:
        return "_files"
    lines = (":".join(f'"{_zsh_text(part)}"' for part in pair if part) for pair in found.items())
    return "_arguments '*: :((" + "\n".join(lines) + "))'"


def _zsh_text(text: str) -> str:
    for plain, escaped in ('"', '""'), ("'", "''"), ("$", "\\$"), ("`", "\\`"), (":", r"\\:"):
        text = text.replace(plain, escaped)
    return text


def _fish(found: Found) -> str:
    return "\n".join(f"{value}\t{text}" if text else value for value, text in found.items())


_TOLD: Mapping[str, Callable[[Found], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
