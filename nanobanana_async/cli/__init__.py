"""The command line, `nanobanana`: a few lines over the library each. Needs the `cli` extra."""

from __future__ import annotations

import os
import sys

_EXTRAS = {"typer": "cli", "rich": "cli", "PIL": "emulator"}


def main() -> None:
    """Run the command line; what it needs is imported only now."""
    _open_missing_streams()
    try:
        if asked := os.environ.get("_NANOBANANA_COMPLETE"):
            _complete(asked)
        from ._app import command

        command()(prog_name="nanobanana")
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        sys.stderr.write(f"Error: this command needs an extra: pip install 'nanobanana_async[{extra}]'\n")
        sys.exit(2)
    except KeyboardInterrupt:  # before a command could take care of it
        sys.exit(130)


def _open_missing_streams() -> None:
    """Python has None for a stream that was closed before it began (`2>&-`, some daemons); what is said is dropped.

    Its number too must be taken, lest the next file that is opened becomes the one that errors are written to.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - until the process ends


def _complete(asked: str) -> None:
    """A shell wants to know what fits."""
    from ._completion import complete

    code = complete(asked)
    if code is not None:
        sys.exit(code)
