"""Failed rows whose generations are known: they are paid, so they are looked at before they are paid for again.

A generation may have ended well after all: its links came later than was waited for, or the service denied its id for
a while. So `retry_failed` asks once, for free, and sends a row again only when the service says that there is nothing
to be had: failed, unknown, without images, or with links that have ended.

Until that is decided the row stays as it is in the journal, with its id. Then one step writes it down: stored, ready,
or running or completed, which the run takes further as any earlier run's. So whatever ends this early, be it kill -9,
leaves a row that the next run looks at again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import anyio

from .._client import Client
from .._exceptions import ContentRejectedError, DownloadError, DownloadExpiredError, NanoBananaError, NotFoundError
from .._models import Generation, GenerationStatus
from .._wire import failure_of
from ._brake import Brake
from ._feeding import EARLIER_WIDTH, Feed
from ._fetching import IMAGES, stem, without_references
from ._journal import Journal
from ._journal_rows import JobState, JournalRow
from ._manifest import relative_files
from ._network import Network
from ._telling import Teller

RETRIED = (JobState.FAILED, JobState.LOST)  # what `retry_failed` tries again
FETCH_SECONDS = 10.0  # for all images; those that take longer are fetched beside the submissions
_LOOKING = "what failed is looked at once more"


async def _keep(_: Sequence[str]) -> None:
    """Images are in their place already."""


class SecondLook:
    """One look at each. `on_open` hears of rows that are to be taken further; `keep` of images that were stored."""

    def __init__(
        self,
        client: Client,
        journal: Journal,
        folder: Path,
        *,
        brake: Brake,
        network: Network,
        teller: Teller,
        max_attempts: int,
        on_open: Callable[[int], None] = lambda _: None,
        keep: Callable[[Sequence[str]], Awaitable[None]] = _keep,
    ) -> None:
        self._client = client
        self._journal = journal
        self._folder = folder
        self._brake = brake
        self._network = network
        self._teller = teller
        self._max_attempts = max_attempts
        self._on_open = on_open
        self._keep = keep

    async def through(self) -> None:
        """Look at all of them, or until the brake is pulled; what concerns every row pulls it."""
        feed = Feed(self._journal, self._brake, *RETRIED, width=self._width, once=True)
        self._network.on_back = feed.wake
        self._fetch_until = anyio.current_time() + FETCH_SECONDS
        async with anyio.create_task_group() as tasks:
            while (row := await feed.next()) is not None:
                if row.generation_id is None:
                    feed.done(row.index)
                    continue
                self._teller.begin(row)
                self._teller.say(_LOOKING)
                tasks.start_soon(self._tend, without_references(row), row.generation_id, feed)
        self._teller.say("")

    # ---- inside

    def _width(self) -> int:
        return 0 if self._network.away else EARLIER_WIDTH

    async def _tend(self, row: JournalRow, generation_id: str, feed: Feed) -> None:
        """See to one row; nothing but cancellation leaves here."""
        try:
            await self._see_to(row, generation_id)
        except Exception as error:
            self._brake.pull(error)
        finally:
            self._teller.leave(row.index)
            feed.done(row.index)

    async def _see_to(self, row: JournalRow, generation_id: str) -> None:
        try:
            generation = await self._look(generation_id)
        except NanoBananaError as error:
            told = f"it is paid and can't be looked at now, so it was not sent again ({error})"
            self._teller.ended(row.index, row.state, told)
            return
        if generation is None:
            await self._send_again(row)
            return
        match failure_of(generation):
            case ContentRejectedError() as refusal:
                await self._journal.ended(row.index, JobState.REJECTED, str(refusal), credits=generation.credits_used)
                self._teller.ended(row.index, JobState.REJECTED, str(refusal))
            case None if generation.status is GenerationStatus.PROCESSING:
                await self._journal.accepted(row.index, generation_id, None, None)
                self._open(row, JobState.RUNNING)
            case None:
                await self._fetch(row, generation)
            case _:
                await self._send_again(row)

    async def _look(self, generation_id: str) -> Generation | None:
        """None: the service knows no such generation. Raises: NanoBananaError when that can't be told."""
        try:
            return await self._client.get(generation_id)
        except NotFoundError:
            return None
        except NanoBananaError as error:
            if not error.retryable or not await self._network.back():
                raise
        try:
            return await self._client.get(generation_id)
        except NotFoundError:
            return None

    async def _fetch(self, row: JournalRow, generation: Generation) -> None:
        """Store its images, or leave that to whoever picks up earlier rows; links that have ended are of no use."""
        files: list[Path] = []
        try:
            with anyio.CancelScope(deadline=self._fetch_until) as fetching:
                files = await self._client.download(generation, self._folder / IMAGES, stem=stem(row))
        except DownloadExpiredError:
            await self._send_again(row)
            return
        except DownloadError:
            pass
        if fetching.cancelled_caught and _is_over(generation):
            await self._send_again(row)
        elif not files:
            await self._journal.completed(row.index, generation)
            self._open(row, JobState.COMPLETED)
        else:
            names = relative_files(self._folder, files)
            await self._keep(names)
            await self._journal.stored(row.index, names, completed=generation)
            self._teller.ended(row.index, JobState.STORED)

    async def _send_again(self, row: JournalRow) -> None:
        """Ready, if it has an attempt left; what this one took stays counted."""
        if await self._journal.requeue(row.state, max_attempts=self._max_attempts, indexes=[row.index]):
            self._open(row, JobState.READY)

    def _open(self, row: JournalRow, state: JobState) -> None:
        self._teller.moved(row.index, state)
        self._on_open(row.index)


def _is_over(generation: Generation) -> bool:
    """Whether its links should have ended, by its date."""
    ends = generation.expires_at
    return ends is not None and datetime.now(UTC) >= (ends if ends.tzinfo else ends.replace(tzinfo=UTC))
