"""What the runner's tests share: one run of a batch, in a hurry, and what came of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, Self

from nanobanana_async import Client
from nanobanana_async.batch import BatchEvent, BatchRunner, BatchSummary, ManifestRow, read_manifest
from nanobanana_async.batch._patience import Patience

KEY = "nb_test"
IN_A_HURRY = Patience(
    confirm_delay=0.01, network_interval=0.02, answer_timeout=2.0, overtake_delay=2.0, outputs_interval=0.05
)


def runner(client: Client, folder: Path, **options: Any) -> BatchRunner:
    """A runner that waits for nothing longer than it must."""
    return BatchRunner(client, folder, **{"patience": IN_A_HURRY, **options})


async def run(client: Client, folder: Path, prompts: int = 0, **options: Any) -> BatchSummary:
    """Run the batch in this folder, with so many cats in it, as far as it goes."""
    async with runner(client, folder, **options) as batch:
        await batch.add(f"cat {number}" for number in range(prompts))
        return await batch.run()


def manifest(folder: Path) -> list[ManifestRow]:
    """The rows as users read them."""
    return list(read_manifest(folder))


def statuses(folder: Path, *, missing_ok: bool = False) -> dict[str, int]:
    """How many rows ended how."""
    if missing_ok and not (folder / "manifest.jsonl").exists():
        return {}
    return dict(Counter(row.status.value for row in read_manifest(folder)))


class Events(list[BatchEvent]):
    """Every event of a run: `BatchRunner(on_event=events.append)`."""

    def __init__(self) -> None:
        super().__init__()
        self._came = asyncio.Event()

    def append(self, event: BatchEvent) -> None:
        super().append(event)
        self._came.set()

    async def told(self, text: str) -> None:
        """Wait until a message has this text in it."""
        while not any(text in event.message for event in self):
            self._came.clear()
            await self._came.wait()


class Relay:
    """A network between a client and an emulator, which can be cut and mended: `async with Relay(emulator.url)`."""

    def __init__(self, url: str) -> None:
        self._target = int(url.split(":")[2].split("/")[0])
        self._port = 0
        self._is_up = False
        self._ends: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/api/v1"

    async def mend(self) -> None:
        """Listen, on the same port as before."""
        self._is_up = True
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Drop every connection, and refuse new ones."""
        self._is_up = False
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._ends |= {writer, back}
        if not self._is_up:  # accepted a moment before the cut
            for end in (writer, back):
                end.transport.abort()
        for source, sink in ((reader, back), (there, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            self._ends.discard(sink)
            sink.close()
