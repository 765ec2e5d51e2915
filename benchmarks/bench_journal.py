"""What the journal costs: import, reopening, synced commits, taking, the manifest and the gallery.

Run: python benchmarks/bench_journal.py [ROWS]

Prints a JSON line a measurement. The folder is temporary, beside the system's other temporary files: give TMPDIR a
disk to measure a disk.
"""

from __future__ import annotations

import asyncio
import json
import math
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nanobanana_async import Generation
from nanobanana_async.batch._inputs import read_rows
from nanobanana_async.batch._journal import Journal
from nanobanana_async.batch._journal_rows import JobState
from nanobanana_async.batch._outputs import Outputs

PRODUCERS = 16
UNDER_WAY = 32
JOBS = 3000
LEAST_ROWS = 4 * JOBS


async def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "prompts.jsonl"
        write_input(source, rows)
        await bench_import(folder / "batch", source, rows)
        await bench_again(folder / "batch", source, rows)
        await bench_jobs(folder / "batch", "FULL")
        await bench_jobs(folder / "batch", "NORMAL")
        await bench_rows(folder / "batch")
        finish_half(folder / "batch", rows)
        await bench_reopen(folder / "batch")
        await bench_manifest(folder / "batch", rows)
        await bench_outputs(folder / "batch", rows)


def write_input(path: Path, rows: int) -> None:
    with path.open("w") as file:
        for index in range(rows):
            prompt = f"A lighthouse number {index} on a cliff at dusk, oil on canvas, long shadows, gulls in the wind"
            file.write(json.dumps({"prompt": prompt, "key": f"k{index}", "model": "nano-banana", "set": "b"}) + "\n")


async def bench_import(folder: Path, source: Path, rows: int) -> None:
    before = peak_megabytes()
    async with Journal.open(folder) as journal:
        with timed("import", rows) as result:
            await journal.add_rows(read_rows(source))
        result["growth_mb"] = round(peak_megabytes() - before, 1)
    result["db_mb"] = round((folder / "batch.db").stat().st_size / 1e6)
    tell(result)


async def bench_again(folder: Path, source: Path, rows: int) -> None:
    async with Journal.open(folder) as journal:
        with timed("the same input again", rows) as result:
            await journal.add_rows(read_rows(source))
    tell(result)


async def bench_jobs(folder: Path, synchronous: str) -> None:
    """Intent and acceptance of each job, each on disk before the next: what the money rules ask for."""
    async with Journal.open(folder, synchronous=synchronous) as journal:
        ready = iter(await journal.take(JOBS))
        with timed(f"intend + accepted, {PRODUCERS} producers, {synchronous}", JOBS) as result:
            async with asyncio.TaskGroup() as group:
                for _ in range(PRODUCERS):
                    group.create_task(submit(journal, ready))
        rows = await journal.unfinished(JobState.RUNNING, limit=JOBS)
        with timed(f"completed + stored, {PRODUCERS} producers, {synchronous}", JOBS) as other:
            left = iter(rows)
            async with asyncio.TaskGroup() as group:
                for _ in range(PRODUCERS):
                    group.create_task(finish(journal, left))
    tell(result)
    tell(other)


async def submit(journal: Journal, rows: Iterator) -> None:
    for row in rows:
        await journal.intend(row.index, 4)
        await journal.accepted(row.index, f"clx{row.index:012}", 4, 1_000_000 - row.index)


async def finish(journal: Journal, rows: Iterator) -> None:
    for row in rows:
        urls = (f"https://example.com/{row.index}.png",)
        await journal.completed(row.index, Generation(id=row.generation_id, prompt="", model="", image_urls=urls))
        await journal.stored(row.index, [f"images/{row.index}.png"])


async def bench_rows(folder: Path) -> None:
    """As a batch does it: a row's acceptance, the next one's intent and an earlier one's end share a commit."""
    generation = Generation(id="", prompt="", model="", image_urls=("https://example.com/1.png",))
    async with Journal.open(folder) as journal:
        rows = await journal.take(JOBS)
        before = await thread_seconds(journal)
        await journal.intend(rows[0].index, 4)
        for row, following, earlier in zip(rows, rows[1:], [None] * UNDER_WAY + rows, strict=False):
            steps = [journal.accepted(row.index, f"clx{row.index:012}", 4, 1_000_000 - row.index)]
            if earlier is not None:
                made = journal.stored(earlier.index, [f"images/{earlier.index}.png"], completed=generation)
                steps.append(asyncio.ensure_future(made))
                await asyncio.sleep(0)
            await journal.intend(following.index, 4)
            await asyncio.gather(*steps)
        seconds = await thread_seconds(journal) - before
    tell(
        {
            "what": "a row's three steps in one commit, processor of the journal's thread",
            "us_each": round(seconds / JOBS * 1e6, 1),
        }
    )


async def thread_seconds(journal: Journal) -> float:
    """Processor time of the journal's thread so far."""
    return await journal._writer.run(lambda _: time.thread_time())


def finish_half(folder: Path, rows: int) -> None:
    connection = sqlite3.connect(folder / "batch.db")
    with connection:
        connection.execute("UPDATE job SET state = 'stored', credits = 4 WHERE idx < ?", (rows // 2,))
    connection.close()


async def bench_reopen(folder: Path) -> None:
    started = time.perf_counter()
    async with Journal.open(folder) as journal:
        await journal.doubt_intents()
        counts = await journal.counts()
        await journal.open_by_model()
        await journal.unfinished(JobState.RUNNING, JobState.COMPLETED, limit=1000)
        first = await journal.take(100)
        result = {"what": "reopen, sums, next rows", "seconds": round(time.perf_counter() - started, 4)}
        result["stored"] = counts.by_state[JobState.STORED].rows
        tell(result)
        for name, after in {"take(100) from the start": -1, "take(100) beyond the done": first[0].index}.items():
            with timed(name, 100) as result:
                await journal.take(100, after=after)
            tell(result)


async def bench_manifest(folder: Path, rows: int) -> None:
    with timed("manifest rows", rows) as result:
        for _ in Journal.read(folder):
            pass
    tell(result)


async def bench_outputs(folder: Path, rows: int) -> None:
    """Manifest and gallery, as at the end of a run."""
    async with Journal.open(folder) as journal:
        with timed("manifest and gallery", rows) as result:
            await Outputs(folder, journal, title=None, interval=math.inf).write()
    tell(result | {"peak_mb": round(peak_megabytes())})


@contextmanager
def timed(what: str, count: int) -> Iterator[dict]:
    result: dict = {"what": what}
    started = time.perf_counter()
    yield result
    seconds = time.perf_counter() - started
    result |= {
        "seconds": round(seconds, 4),
        "us_each": round(seconds / count * 1e6, 2),
        "per_s": round(count / seconds),
    }


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tell(result: dict) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    if wanted < LEAST_ROWS:
        sys.exit(f"ROWS must be at least {LEAST_ROWS:,} (got {wanted})")
    asyncio.run(main(wanted))
