"""Image files to answer with: fetched once by the client's own download, whole and checked, then served from disk.

What a caller names is a job of their own and a place in it, never a link: only the links of that generation, as the
service tells them, are ever fetched, without the key. A folder that the app gives is kept for good; otherwise it is
a temporary one, where the images that were not asked for the longest make room.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ..._client import Client
from ..._exceptions import DownloadError
from ..._images import ImageFormat, safe_stem
from ..._models import Generation

MEDIA_TYPES = {image.value: image.mime for image in ImageFormat}
IN_USE_SECONDS = 60.0  # a file asked for so recently may still be on its way to a caller


@dataclass(frozen=True, slots=True)
class _Used:
    asked_at: float
    files: list[Path]
    size: int


class ImageFolder:
    """Open with `async with`. `folder` None is a temporary one of at most `max_bytes`, more or less."""

    def __init__(self, client: Client, folder: Path | None, *, max_bytes: int) -> None:
        self.permanent = folder
        self._client = client
        self._max_bytes = max_bytes
        self._folder = folder or Path()
        self._used: OrderedDict[str, _Used] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        if self.permanent is None:
            self._folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="nanobanana-"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.permanent is None:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True))

    async def files(self, generation: Generation, count: int) -> list[Path]:
        """The generation's `count` images on disk, fetched if they aren't there yet; at once only by one caller.

        Raises: DownloadError and what a look at the generation raises.
        """
        lock = self._locks.setdefault(generation.id, asyncio.Lock())
        try:
            async with lock:
                files = await asyncio.to_thread(self._find, generation.id, count)
                if files is None:
                    files = await self._fetch(generation)
                if self.permanent is None:
                    await asyncio.to_thread(_remove, self._note(generation.id, files))
                return files
        finally:
            if not lock.locked():
                self._locks.pop(generation.id, None)

    async def _fetch(self, generation: Generation) -> list[Path]:
        whole = generation if generation.image_urls else await self._client.get(generation.id)
        if not whole.image_urls:
            raise DownloadError(f"generation {generation.id} has no images", generation_id=generation.id)
        return await self._client.download(whole, self._folder, stem=_stem(generation.id))

    def _find(self, generation_id: str, count: int) -> list[Path] | None:
        stem = _stem(generation_id)
        stems = [stem] if count == 1 else [f"{stem}-{place}" for place in range(1, count + 1)]
        found = [_existing(self._folder, name) for name in stems]
        whole = [path for path in found if path is not None]
        return whole if count and len(whole) == count else None

    def _note(self, generation_id: str, files: list[Path]) -> list[Path]:
        """Remember that these were asked for; returns the files that have to make room."""
        now, surplus_files = time.monotonic(), []
        self._used[generation_id] = _Used(now, files, sum(path.stat().st_size for path in files))
        self._used.move_to_end(generation_id)
        surplus = sum(used.size for used in self._used.values()) - self._max_bytes
        for name, used in [*self._used.items()]:
            if surplus <= 0 or now - used.asked_at < IN_USE_SECONDS:
                break
            del self._used[name]
            surplus -= used.size
            surplus_files += used.files
        return surplus_files


def _stem(generation_id: str) -> str:
    return safe_stem(generation_id)


def _existing(folder: Path, stem: str) -> Path | None:
    return next((path for suffix in MEDIA_TYPES if (path := folder / f"{stem}{suffix}").is_file()), None)


def _remove(files: list[Path]) -> None:
    for path in files:
        path.unlink(missing_ok=True)
