"""Many prompts at once, saved as they finish. One failure stops nothing, and any number of prompts fits in memory."""

import asyncio

from nanobanana_async import Client

PROMPTS = (f"a {animal} {doing}" for animal in ("fox", "owl", "whale") for doing in ("reading", "baking", "sailing"))


async def main() -> None:
    async with Client() as client, client.map(PROMPTS) as outcomes:
        async for outcome in outcomes:
            if outcome.generation is None:
                print(f"{outcome.item}: {outcome.error}")
            else:
                paths = await client.download(outcome.generation, "out")
                print(f"{outcome.item}: {paths[0]}")
        print(client.statistics())


if __name__ == "__main__":
    asyncio.run(main())
