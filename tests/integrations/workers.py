"""The application that test_fastapi_workers.py starts, once in every worker; the environment says on what."""

from __future__ import annotations

import os
from pathlib import Path

from web import app_of

from nanobanana_async.integrations.fastapi import _store
from nanobanana_async.integrations.sqlite import SQLiteLimiter

_store.SILENCE_SECONDS = 1.5  # a worker that was killed is missed soon
FOLDER = Path(os.environ["FOLDER"])


def shared() -> SQLiteLimiter:
    """The account's slots, for all workers."""
    return SQLiteLimiter(FOLDER / "slots.db", account="one", lease_seconds=1.5)


app = app_of(os.environ["NANO_BANANA_BASE_URL"], jobs=FOLDER / "jobs.db", limiter=shared)


@app.get("/pid")
async def pid() -> int:
    return os.getpid()
