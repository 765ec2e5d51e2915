"""Interactive work before a batch on the same account: priorities, and a wait that can be given up and resumed."""

import asyncio

from nanobanana_async import Client, GenerationTimeoutError


async def main() -> None:
    async with Client() as client:
        batch = [await client.submit(f"background number {number}") for number in range(5)]
        urgent = await client.submit("the cover picture", priority=10)  # takes the next free slot
        print((await urgent.result()).image_urls)
        try:
            await client.generate("a very slow one", timeout=0.001)
        except GenerationTimeoutError as error:  # paid and still running: its id is not lost
            generation = await client.wait(error.generation_id or "")
            print(generation.image_urls)
        for job in batch:
            await job.result()


if __name__ == "__main__":
    asyncio.run(main())
