"""A generation's progress while it runs."""

import asyncio

from nanobanana_async import Client, ContentRejectedError


async def main() -> None:
    async with Client() as client:
        try:
            async with client.stream("a city at night, seen from a kite") as events:
                async for event in events:
                    print(f"{event.progress:3.0f} % {event.message}")
        except ContentRejectedError as error:
            print(f"rejected, and charged {error.credits_used} credits: {error}")


if __name__ == "__main__":
    asyncio.run(main())
