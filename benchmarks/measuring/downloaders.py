"""Links to files: one of 1 GiB, or thousands of 200 KB, 16 at once. Ours, a bare loop, curl, aria2c."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from .turns import Many

ONE_BYTES, MANY_BYTES = 1 << 30, 200_000
AT_ONCE = 16
CHUNK = 1 << 20
PLACES: dict[str, str | None] = {"disk": None, "memory": "/dev/shm"}
OURS, OURS_SYNCED, BARE, CURL, ARIA = (
    "nanobanana_async, no fsync",
    "nanobanana_async",
    "aiohttp + aiofiles",
    "curl",
    "aria2c",
)

Links = Sequence[str]


class Fetching(Many):
    """`count` links to files of a folder that is emptied after each turn."""

    def __init__(self, origin: str, size: int, folder: Path, fetch: Callable[[Links, Path], Awaitable[None]]) -> None:
        self._origin, self._size, self._folder, self._fetch = origin, size, folder, fetch

    async def run(self, count: int, at_once: int) -> None:
        links = [f"{self._origin}/image/{self._size}/{number}.png" for number in range(count)]
        await self._fetch(links, self._folder / "out")

    async def clear(self) -> None:
        """Check what came, and make room. The next turn shall not pay for this one's bytes on their way to the disk."""
        files = list((self._folder / "out").iterdir())
        assert files
        assert {path.stat().st_size for path in files} == {self._size}
        shutil.rmtree(self._folder / "out")
        await asyncio.to_thread(_sync_all)


def _sync_all() -> None:
    subprocess.run(["sync"], check=True)


async def each(links: Links, one: Callable[[str], Awaitable[object]]) -> None:
    """All links, AT_ONCE at once."""
    left = iter(links)

    async def work() -> None:
        for link in left:
            await one(link)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(links))):
            group.create_task(work())


@asynccontextmanager
async def ours(origin: str, folder: Path, *, fsync: bool) -> AsyncIterator[Mapping[str, Many]]:
    from nanobanana_async import Generation
    from nanobanana_async._downloads import Downloads
    from nanobanana_async._transport import Transport

    transport = Transport("nb_0123456789abcdef", base_url=f"{origin}/api/v1")
    downloads = Downloads(transport, fsync=fsync, max_bytes=2 * ONE_BYTES, max_concurrent=AT_ONCE)
    serial = itertools.count()

    async def fetch(links: Links, target: Path) -> None:
        async def one(link: str) -> object:
            generation = Generation(id=f"clx{next(serial)}", prompt="", model="", image_urls=(link,))
            return await downloads.save(generation, target)

        await each(links, one)

    yield offers(origin, folder, fetch)
    await transport.aclose()


@asynccontextmanager
async def bare(origin: str, folder: Path) -> AsyncIterator[Mapping[str, Many]]:
    import aiofiles
    import aiohttp

    async with aiohttp.ClientSession(read_bufsize=1 << 18, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def fetch(links: Links, target: Path) -> None:
            async def one(link: str) -> None:
                async with session.get(link) as response, aiofiles.open(target / link.rpartition("/")[2], "wb") as file:
                    async for chunk in response.content.iter_chunked(CHUNK):
                        await file.write(chunk)

            await _make(target)
            await each(links, one)

        yield offers(origin, folder, fetch)


@asynccontextmanager
async def curl(origin: str, folder: Path) -> AsyncIterator[Mapping[str, Many]]:
    _look_for("curl")

    async def fetch(links: Links, target: Path) -> None:
        config = folder / "curl.txt"
        lines = (f'url = "{link}"\noutput = "{target / link.rpartition("/")[2]}"\n' for link in links)
        config.write_text("".join(lines))
        await _make(target)
        await _run("curl", "-s", "--parallel", "--parallel-max", str(AT_ONCE), "-K", str(config))

    yield offers(origin, folder, fetch)


@asynccontextmanager
async def aria(origin: str, folder: Path) -> AsyncIterator[Mapping[str, Many]]:
    _look_for("aria2c")

    async def fetch(links: Links, target: Path) -> None:
        listed = folder / "aria.txt"
        listed.write_text("\n".join(links))
        options = ("-q", f"-j{AT_ONCE}", "-x1", "-s1", "--file-allocation=none", "--auto-file-renaming=false")
        await _run("aria2c", *options, "-d", str(target), "-i", str(listed))

    yield offers(origin, folder, fetch)


def offers(origin: str, folder: Path, fetch: Callable[[Links, Path], Awaitable[None]]) -> Mapping[str, Many]:
    return {
        "one": Fetching(origin, ONE_BYTES, folder, fetch),
        "many": Fetching(origin, MANY_BYTES, folder, fetch),
    }


def _look_for(program: str) -> None:
    if shutil.which(program) is None:
        raise ModuleNotFoundError(f"no {program}", name=program)


async def _make(folder: Path) -> None:
    folder.mkdir()  # noqa: ASYNC240


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")


@asynccontextmanager
async def _in_folder(
    contender: Callable[[str, Path], object], origin: str, *, parent: str | None
) -> AsyncIterator[Mapping[str, Many]]:
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        async with contender(origin, Path(folder)) as offered:
            yield offered


KINDS = {OURS: partial(ours, fsync=False), OURS_SYNCED: partial(ours, fsync=True), BARE: bare, CURL: curl, ARIA: aria}


def name_of(kind: str, place: str) -> str:
    """A contender's name."""
    return f"{kind} ({place})"


CONTENDERS = {
    name_of(kind, place): partial(_in_folder, made, parent=parent)
    for place, parent in PLACES.items()
    for kind, made in KINDS.items()
}
