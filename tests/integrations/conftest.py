"""A real Redis for the tests of a session; each test finds it empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import MISSING, RedisServer, find_redis_server


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
