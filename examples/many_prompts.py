"""Many prompts at once, saved as they finish. One failure stops nothing, and any number of prompts fits in memory."""

import asyncio

from nanobanana_async import Client, DownloadError, Generation

PROMPTS = (f"a {animal} {doing}" for animal in ("fox", "owl", "whale") for doing in ("reading", "baking", "sailing"))


async def save(client: Client, generation: Generation) -> str:
    """Where its first image is; one that can't be saved is paid all the same, and later calls find it by its id."""
    try:
        return str((await client.download(generation, "out"))[0])
    except DownloadError as error:
        return f"generation {generation.id} is not saved: {error}"


async def main() -> None:
    async with Client() as client, client.map(PROMPTS) as outcomes:
        async for outcome in outcomes:
            if outcome.generation is None:
                print(f"{outcome.item}: {outcome.error}")
            else:
                print(f"{outcome.item}: {await save(client, outcome.generation)}")
        print(client.statistics())


if __name__ == "__main__":
    asyncio.run(main())
