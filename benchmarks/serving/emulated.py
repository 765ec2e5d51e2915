"""The emulator's process: `python -m serving.emulated LIMIT SECONDS`. Says its URL; ends with its input."""

from __future__ import annotations

import asyncio
import sys

from nanobanana_async.emulator import Emulator


async def main(limit: int, duration: float) -> None:
    async with Emulator(limit=limit, duration=duration, credits=10**9, image_size=64, max_entries=1000) as emulator:
        print(emulator.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
