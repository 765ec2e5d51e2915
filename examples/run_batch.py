"""A batch from Python: a folder that can be resumed. Run it twice: the second run has nothing left to pay."""

import asyncio

from nanobanana_async import Client
from nanobanana_async.batch import BatchEvent, BatchEventKind, BatchRunner


def tell(event: BatchEvent) -> None:
    if event.kind is BatchEventKind.ROW and event.index is not None:
        print(f"row {event.index}: {event.state} ({event.progress.done}/{event.progress.rows})")


async def main() -> None:
    async with Client() as client, BatchRunner(client, "out/batch", max_credits=20, on_event=tell) as batch:
        await batch.add(["a fox reading", "an owl baking", "a whale sailing"])
        preflight = await batch.preflight()
        print(f"{preflight.rows} prompts, {preflight.credits} credits of {preflight.balance}")
        summary = await batch.run()
        print(f"{summary.credits_used} credits used; all stored: {summary.all_stored}")


if __name__ == "__main__":
    asyncio.run(main())
