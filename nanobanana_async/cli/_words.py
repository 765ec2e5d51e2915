"""Numbers and lengths of time as people say them. Pure."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def told_seconds(seconds: float) -> str:
    """A length of time: 40 s, 12 min, 3 h 20 min, 4 days 3 h."""
    minutes, hours, days = round(seconds / 60), seconds / 3600, seconds / 86400
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if hours < 36:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{int(days)} days {int(hours % 24)} h"
