"""What a worker told lately, told once more to a Redis that has forgotten it.

The coordinator takes over what is told a fifth of a second later, when it is there. A Redis that is flushed in between
would leave rows that are paid, and even stored, with nobody but this worker who knows.
"""

from __future__ import annotations

from collections import deque

from ._book import Book
from ._rows import RowRecord

MOST_ROWS = 10_000  # some megabytes


class Recollection:
    """The newest `most` rows of all slices, about."""

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._pages: deque[tuple[str, dict[int, RowRecord]]] = deque()
        self._most = most

    def __repr__(self) -> str:
        return f"<Recollection [{self._rows} rows]>"

    def page(self, batch: str) -> dict[int, RowRecord]:
        """A page for a slice to write on, row by row. The oldest pages are let go."""
        while self._rows > self._most:
            self._pages.popleft()
        page: dict[int, RowRecord] = {}
        self._pages.append((batch, page))
        return page

    async def tell(self, book: Book) -> None:
        """Tell all of it again. Raises: BookError."""
        for batch, page in list(self._pages):
            if page:
                await book.tell_again(batch, page)

    @property
    def _rows(self) -> int:
        return sum(len(page) for _, page in self._pages)
