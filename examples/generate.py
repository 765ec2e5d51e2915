"""One prompt to one image file.

NANO_BANANA_API_KEY=nb_… python examples/generate.py "an orange cat"
"""

import asyncio
import sys

from nanobanana_async import Client


async def main(prompt: str) -> None:
    async with Client() as client:
        generation = await client.generate(prompt, aspect_ratio="16:9")
        for path in await client.download(generation, "out"):
            print(path)


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "an orange cat"))
