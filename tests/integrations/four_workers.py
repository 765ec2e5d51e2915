"""The application that test_fastapi_workers.py starts, once in every worker; the environment says on what."""

from __future__ import annotations

import os
from pathlib import Path

from web import app_of

from nanobanana_async.integrations.fastapi import _store

_store.SILENCE_SECONDS = 1.5  # a worker that was killed is missed soon
app = app_of(os.environ["NANO_BANANA_BASE_URL"], jobs=Path(os.environ["JOBS"]))


@app.get("/pid")
async def pid() -> int:
    return os.getpid()
