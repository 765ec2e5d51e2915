"""The command line, `nanobanana`: a few lines over the library each. Needs the `cli` extra."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; what it needs is imported only now."""
    try:
        from ._app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.stderr.write("the command line needs its extra: pip install 'nanobanana_async[cli]'\n")
        sys.exit(2)
    app()
