"""`emulator`: the whole API on this machine."""

from __future__ import annotations

from typing import Any

from ..emulator import Emulator
from ._run import OK, say


async def serve(**options: Any) -> int:
    """Serve until interrupted."""
    try:
        await Emulator(**options).serve(_tell)
    except OSError as error:
        say(f"error: can't listen on port {options['port']} ({error.strerror}); choose another with --port")
        return 2
    return OK


def _tell(emulator: Emulator) -> None:
    limit = "no" if emulator.limit is None else emulator.limit
    print(f"export NANO_BANANA_BASE_URL={emulator.url}", flush=True)
    print("export NANO_BANANA_API_KEY=nb_emulator", flush=True)
    say(f"emulator ready: {limit} slot limit in {emulator.scope} scope, {emulator.credits} credits an account")
    say("set the two variables above in another terminal; Ctrl-C stops it")
