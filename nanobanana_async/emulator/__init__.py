"""The documented API as a local server: an independent witness, which imports nothing of the client.

`Emulator` for async code, `Emulator(...).in_thread()` for everything else; `FaultPlan` says what goes wrong.
"""

from ._accounts import Account
from ._catalog import DEFAULT_MODELS, Model
from ._clock import Clock
from ._faults import Fault, FaultPlan
from ._ledger import Entry, Ledger
from ._server import Emulator
from ._settings import FAIL_MARKER, UNSAFE_MARKER, Settings
from ._thread import ThreadedEmulator

__all__ = [
    "Account",
    "Clock",
    "DEFAULT_MODELS",
    "Emulator",
    "Entry",
    "FAIL_MARKER",
    "Fault",
    "FaultPlan",
    "Ledger",
    "Model",
    "Settings",
    "ThreadedEmulator",
    "UNSAFE_MARKER",
]
