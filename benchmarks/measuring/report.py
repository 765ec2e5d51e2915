"""Tables on a terminal, and the options that all of these benchmarks have."""

from __future__ import annotations

import argparse


class Table:
    """Columns as wide as what stands in them."""

    def __init__(self, *titles: str) -> None:
        self._rows: list[tuple[str, ...]] = [titles]

    def add(self, *cells: str) -> None:
        """One more row, a cell for each title."""
        self._rows.append(cells)

    def print(self) -> None:
        """Markdown, readable as it is."""
        widths = [max(len(row[column]) for row in self._rows) for column in range(len(self._rows[0]))]
        for place, row in enumerate(self._rows):
            print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
            if place == 0:
                print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def options_of(description: str | None) -> argparse.ArgumentParser:
    """--rounds, --share, --json, --check."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender; medians are of these")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual amount of work in a turn")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    return parser
