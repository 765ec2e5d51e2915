"""Which rows are handed out in which shard: written down before anything is handed out. Pure.

The plan stands in the journal of the coordinator. Shards are made known to Redis in the plan's order, and their number
there tells how far that went; so a coordinator that was killed in the middle goes on where it was, and no row is ever
in two shards that could both send it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

MAX_SHARD_ROWS = 500  # what a worker holds of a shard in memory; with nine pictures a row some hundred megabytes
LEAST_SHARD_ROWS = 8
SHARDS_WANTED = 64  # so that some dozen workers end at about the same time


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch's name in Redis, where that is, and its shards as texts like `0-9,12`."""

    batch: str
    account: str
    server: str
    shards: tuple[str, ...] = ()
    upto: int = -1  # rows up to this index have been handed out

    def with_shards(self, indexes: Iterable[int]) -> Plan:
        """The plan with these rows handed out as well, in their order."""
        rows = sorted(indexes)
        size = shard_rows(len(rows))
        new = tuple(to_ranges(rows[at : at + size]) for at in range(0, len(rows), size))
        return replace(self, shards=self.shards + new, upto=max([self.upto, *rows[-1:]]))

    def shard_of(self, index: int) -> int | None:
        """The newest shard that has this row."""
        found = [number for number, text in enumerate(self.shards) if index in set(from_ranges(text))]
        return found[-1] if found else None

    def to_json(self) -> str:
        """As it stands in the journal."""
        return json.dumps([self.batch, self.account, self.server, self.shards, self.upto])

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read it back."""
        batch, account, server, shards, upto = json.loads(text)
        return cls(batch, account, server, tuple(shards), int(upto))


def shard_rows(rows: int) -> int:
    """How many of so many rows a shard gets."""
    return min(MAX_SHARD_ROWS, max(LEAST_SHARD_ROWS, -(-rows // SHARDS_WANTED)))


def to_ranges(indexes: list[int]) -> str:
    """`[0, 1, 2, 5]` as `0-2,5`."""
    runs: list[list[int]] = []
    for index in indexes:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def from_ranges(text: str) -> Iterator[int]:
    """The indexes again."""
    for run in text.split(","):
        first, _, last = run.partition("-")
        yield from range(int(first), int(last or first) + 1)
