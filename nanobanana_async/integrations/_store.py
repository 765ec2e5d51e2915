"""Where a book is kept: the contract of stores, and the change that all of them make in one transaction. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ._book import Book
from ._turn import Turn

Dead: TypeAlias = Callable[[Iterable[str]], set[str]]  # which of these holders have certainly died
TakeTurn: TypeAlias = Callable[[Book, float, Dead], Turn]  # by the store's clock


class StoreUnavailableError(Exception):
    """The store can't be reached now, or not be written to. What was to be told is to be told again."""


class Store(Protocol):
    """Keeps one account's book, and wakes those who wait for a change of it.

    `address` is where this process is woken. `look_interval` is how often, in seconds, one who waits looks by itself,
    should a call to wake be lost.
    """

    @property
    def address(self) -> str: ...
    @property
    def look_interval(self) -> float: ...
    async def open(self, holder: str, wake: Callable[[], None]) -> None:
        """Be ready to be woken: `wake` is called in the event loop.

        Raises: ConfigurationError for a place where no book can be kept.
        """

    async def transact(self, take_turn: TakeTurn) -> Turn:
        """Read, change and write, as one; `take_turn` may be called several times, the last one counts.

        Raises: StoreUnavailableError, when it may or may not have been written.
        """

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Change:
    """What a turn made of the book: `text` is None when there is nothing to write. No two books have one stamp."""

    turn: Turn
    text: str | None
    wake: set[str]

    @property
    def stamp(self) -> str:
        return f"{self.turn.book.epoch}:{self.turn.book.version}"

    @classmethod
    def of(cls, text: str | None, clock: float, take_turn: TakeTurn, dead: Dead = lambda _: set()) -> Change:
        """Take the turn. A book that can't be read counts as lost."""
        book = _read(text)
        turn = take_turn(book, clock, dead)
        wake, body = turn.close(), book.body()
        if text is not None and body == text.partition("\n")[2]:
            return cls(turn, None, wake)
        book.at = max(book.at, turn.now)
        book.version += 1
        return cls(turn, book.dumps(body), wake)


def _read(text: str | None) -> Book:
    if text is None:
        return Book()
    try:
        return Book.loads(text)
    except (ValueError, TypeError, KeyError):
        return Book()
