"""How much memory this process holds, and has held at most. Megabytes of 2^20 bytes."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

MB = 1 << 20
_STATM = Path("/proc/self/statm")


def held_megabytes() -> float:
    """Resident now; where the system doesn't tell (no /proc), the most so far."""
    if not _STATM.exists():
        return peak_megabytes()
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB


def peak_megabytes() -> float:
    """Resident at most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / MB if sys.platform == "darwin" else most / 1024
