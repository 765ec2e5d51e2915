"""Limiters over one account: in this process, in a SQLite file, in Redis; each as two processes would have it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from servers import MISSING, RedisServer, find_redis_server

from nanobanana_async import AccountLimiter
from nanobanana_async.integrations.redis import RedisLimiter
from nanobanana_async.integrations.sqlite import SQLiteLimiter

NewLimiter: TypeAlias = Callable[..., Any]


@pytest.fixture(scope="session")
def running_redis() -> Iterator[RedisServer]:
    """One server for the session. It must be there: a test that is skipped says nothing."""
    if find_redis_server() is None:
        pytest.fail(MISSING)
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(running_redis: RedisServer) -> RedisServer:
    """The server, empty."""
    running_redis.run("FLUSHALL")
    return running_redis


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where processes share slots: a file, or a Redis URL."""
    if request.param == "sqlite":
        return str(tmp_path / "slots.db")
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
async def limiters(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NewLimiter]:
    """`limiters()` gives one more limiter of the same account, as another process would make it."""
    in_process: list[AccountLimiter] = []
    async with AsyncExitStack() as stack:
        if request.param == "redis":
            server = request.getfixturevalue("redis_server")

        def new(**options: Any) -> Any:
            if request.param == "in process":
                in_process[:] = in_process or [AccountLimiter(**options)]
                return in_process[0]
            account = {"account": "mine", **options}
            sqlite = request.param == "sqlite"
            limiter: Any = (
                SQLiteLimiter(tmp_path / "slots.db", **account) if sqlite else RedisLimiter(server.url, **account)
            )
            stack.push_async_callback(limiter.aclose)
            return limiter

        yield new
