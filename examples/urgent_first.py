"""Interactive work beside a batch on the same account: priorities, groups, and a wait that is given up and resumed."""

import asyncio

from nanobanana_async import Client, GenerationTimeoutError


async def main() -> None:
    async with Client() as client:
        batch = [await client.submit(f"background number {number}", group="ann") for number in range(5)]
        other = await client.submit("one for somebody else", group="ben")  # does not wait for all of ann's
        urgent = await client.submit("the cover picture", priority=10)  # takes the next free slot
        print(f"ahead of ben's: {other.position}, of the cover: {urgent.position}")
        print((await urgent.result()).image_urls)
        try:
            await client.generate("a very slow one", timeout=0.001)
        except GenerationTimeoutError as error:  # paid and still running: its id is not lost
            generation = await client.wait(error.generation_id or "")
            print(generation.image_urls)
        for job in (*batch, other):
            await job.result()


if __name__ == "__main__":
    asyncio.run(main())
