"""`emulator`: the whole API on this machine."""

from __future__ import annotations

import os
from typing import Any

from ..emulator import Emulator
from ._run import BAD_INPUT, OK, say_error
from ._terminal import out, say
from ._words import counted


async def serve(**options: Any) -> int:
    """Serve until interrupted."""
    try:
        await Emulator(**options).serve(_tell)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        say_error(f"can't listen on port {options['port']} ({reason}); choose another with --port")
        return BAD_INPUT
    return OK


def _tell(emulator: Emulator) -> None:
    slots = "no limit" if emulator.limit is None else counted(emulator.limit, "slot")
    out(f"export NANO_BANANA_BASE_URL={emulator.url}")
    if not emulator.keys:
        out("export NANO_BANANA_API_KEY=nb_emulator")
    say(f"The emulator is ready: {slots} in {emulator.scope} scope, {counted(emulator.credits, 'credit')} an account.")
    say("Set what is written above in another terminal; Ctrl-C stops it.")
