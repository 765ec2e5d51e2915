"""Keys that stand on more than one line. Nothing is overwritten then, but whoever joins by key is to know.

The first reading of an input keeps a hash of each key, 8 bytes; only if two are the same is the input read once more,
for the lines.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

MAX_TOLD = 5  # keys, and lines of a key, that a message names
_BUCKETS = 256  # so that what is counted at a time is small


@dataclass(slots=True)
class RepeatedKey:
    """A key, the first lines that it stands on, and how many there are."""

    key: str
    lines: list[int] = field(default_factory=list)
    times: int = 0

    def add(self, line: int) -> None:
        """One more line."""
        self.times += 1
        if len(self.lines) < MAX_TOLD:
            self.lines.append(line)


class KeyHashes:
    """Remembers keys well enough to say whether any comes twice."""

    def __init__(self) -> None:
        self._buckets = [array("q") for _ in range(_BUCKETS)]

    def add(self, key: str) -> None:
        """One more."""
        number = hash(key)
        self._buckets[number % _BUCKETS].append(number)

    def repeated(self) -> tuple[int, frozenset[int]]:
        """How many keys come more than once, and the hashes of some of them."""
        keys, some = 0, set[int]()
        for bucket in self._buckets:
            if len(set(bucket)) < len(bucket):
                repeated = [number for number, times in Counter(bucket).items() if times > 1]
                keys += len(repeated)
                some.update(repeated[: MAX_TOLD - len(some)])
        return keys, frozenset(some)


def name_keys(lines: Iterable[tuple[str | None, int]], hashes: frozenset[int]) -> list[RepeatedKey]:
    """The keys with these hashes, by another reading of the input: the key and the number of each line."""
    found: dict[str, RepeatedKey] = {}
    for key, line in lines:
        if key is not None and hash(key) in hashes:
            found.setdefault(key, RepeatedKey(key)).add(line)
    return [key for key in found.values() if key.times > 1]
