"""The atomic steps: Lua scripts beside this file, each one round trip, with time from the server's clock only."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

_PRELUDE = "_prelude"


class Scripts:
    """Runs a script by its file's name under one account's keys."""

    def __init__(self, redis: Redis, root: str) -> None:
        self._redis = redis
        self._root = root
        self._registered: dict[str, AsyncScript] = {}

    async def run(self, name: str, *values: Any) -> Any:
        """Run it once. Raises: RedisError."""
        script = self._registered.get(name)
        if script is None:
            script = self._registered[name] = self._redis.register_script(_source(name))
        return await script(keys=[self._root], args=values)


@cache
def _source(name: str) -> str:
    folder = resources.files(__package__).joinpath("lua")
    prelude, own = (folder.joinpath(f"{part}.lua").read_text("utf-8") for part in (_PRELUDE, name))
    return f"{prelude}\n{own}"
