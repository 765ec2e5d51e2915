"""A contender's process: `python -m measuring.contender NAME ORIGIN`. Reads one line of JSON a turn, answers one."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from importlib import import_module

from .turns import Many, turn


async def main(name: str, origin: str) -> None:
    """Say what is missing, if anything; then do as told until the input ends."""
    module, _, contender = name.partition(":")
    async with AsyncExitStack() as stack:
        try:
            offered = await stack.enter_async_context(
                import_module(f"measuring.{module}").CONTENDERS[contender](origin)
            )
        except ModuleNotFoundError as error:
            answer({"missing": error.name})
            return
        answer({"missing": None})
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            work = json.loads(line)
            offer = offered[work.pop("what")]
            answer(await turn(offer if isinstance(offer, Many) else Many(offer), **work))


def answer(told: dict[str, object]) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
