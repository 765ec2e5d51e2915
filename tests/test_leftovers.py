"""Parts of killed processes go, those of live ones stay: with real processes, which are really killed."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nanobanana_async import Generation
from nanobanana_async import _leftovers as leftovers
from nanobanana_async._downloads import Downloads
from nanobanana_async._leftovers import DAY, part_name, remove_leftovers
from nanobanana_async._partfile import PartFile
from nanobanana_async._transport import Transport

WRITER = """
import asyncio, sys
from nanobanana_async._partfile import PartFile

async def main():
    part = PartFile(sys.argv[1], "a.png")
    await part.write([b"half"])
    part._file.flush()
    print("written", flush=True)
    sys.stdin.readline()
    await part.commit([b" and half"], fsync=False, folder_too=False)

asyncio.run(main())
"""
Start = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """A process in the middle of an image."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", WRITER, str(folder)]
        writer = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(writer)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        return writer

    yield start
    for writer in started:
        writer.kill()
        writer.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_process_leaves_nothing_for_ever(tmp_path: Path, start: Start) -> None:
    """What it wrote is there until somebody looks, and no longer; one that lives loses nothing."""
    killed, lives = start(tmp_path), start(tmp_path)
    killed.kill()
    killed.wait()
    assert len(names(tmp_path)) == 2
    remove_leftovers(tmp_path)
    assert len(names(tmp_path)) == 1
    lives.communicate("go on\n")
    assert lives.returncode == 0
    assert names(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"half and half"


async def test_the_next_download_into_a_folder_clears_it(tmp_path: Path, start: Start) -> None:
    """Whoever goes on where the killed one was: the same batch, or the same command."""
    killed = start(tmp_path)
    killed.kill()
    killed.wait()
    image = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    transport = Transport(None)
    [stored] = await Downloads(transport).save(Generation(id="b", prompt="x", model="m", image_urls=[image]), tmp_path)
    assert names(tmp_path) == [stored.name]
    await transport.aclose()


def test_what_is_no_part_of_ours_stays(tmp_path: Path) -> None:
    """Not everything that is hidden, or ends in .part, is a leftover."""
    (tmp_path / "to").mkdir()
    (tmp_path / part_name("folder.png")).mkdir()
    (tmp_path / part_name("link.png")).symlink_to(tmp_path / "to")
    os.mkfifo(tmp_path / part_name("pipe.png"))
    for name in (".a.part", "a.part", ".a.png.0123.part", part_name("a.png")[1:]):
        (tmp_path / name).touch()
    before = names(tmp_path)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == before
    remove_leftovers(tmp_path / "nosuch")


def test_a_part_of_another_host_goes_when_it_is_old(tmp_path: Path) -> None:
    """Its lock may not be seen from here."""
    name = part_name("a.png").replace(f".png.{leftovers._host()}", ".png.0000")
    (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [name]
    remove_leftovers(tmp_path, clock=lambda: time.time() + DAY + 1)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("when", "times"), [("before its claim", 1), ("before its claim", 3), ("after its claim", 1)])
async def test_a_part_taken_away_at_its_start_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, times: int
) -> None:
    """Somebody looked between its making and its claim, perhaps again and again; after it, nobody takes it."""
    claim, left = leftovers.claim, iter(range(times, 0, -1))

    def claim_late(handle: int) -> int | None:
        if next(left) == 1:
            monkeypatch.undo()
        if when == "before its claim":
            remove_leftovers(tmp_path)
            return claim(handle)
        claimed = claim(handle)
        remove_leftovers(tmp_path)
        return claimed

    monkeypatch.setattr("nanobanana_async._partfile.claim", claim_late)
    part = PartFile(str(tmp_path), "a.png")
    await part.commit([b"image"], fsync=False, folder_too=False)
    assert (tmp_path / "a.png").read_bytes() == b"image"
    assert names(tmp_path) == ["a.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="parts are not claimed there")
async def test_a_part_that_can_not_be_claimed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last free file handle was its own: the claim needs another."""

    def none_left(handle: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", none_left)
    part = PartFile(str(tmp_path), "a.png")
    with pytest.raises(OSError, match="Too many open files"):
        await part.commit([b"image"], fsync=False, folder_too=False)
    part.discard()
    assert names(tmp_path) == []


async def test_many_who_clear_a_folder_disturb_nobody(tmp_path: Path) -> None:
    """All images of several writers arrive while others look for leftovers all the time."""
    images = 200

    async def write(number: int) -> None:
        part = PartFile(str(tmp_path), f"{number}.png")
        await part.write([b"half"])
        await part.commit([b" and half"], fsync=False, folder_too=False)

    clearing = [asyncio.to_thread(lambda: [remove_leftovers(tmp_path) for _ in range(100)]) for _ in range(2)]
    await asyncio.gather(*map(write, range(images)), *clearing)
    assert len(names(tmp_path)) == images
    assert {(tmp_path / name).read_bytes() for name in names(tmp_path)} == {b"half and half"}
