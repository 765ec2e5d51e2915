"""The application's lifespan: it opens the client and all that the routes need, and closes it in order.

At the end nothing is lost: no job is begun any more, the answers of submissions under way are awaited and written
down, and only then the store is closed.
"""

from __future__ import annotations

import gc
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import anyio
from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from ..._accounts import find_api_key
from ..._client import Client
from ..._exceptions import ConfigurationError
from ..._limiter import Limiter
from ._adoption import Adoption
from ._images import ImageFolder
from ._jobs import JobService
from ._receipts import Receipts
from ._room import Room
from ._signals import before_the_end
from ._store import JobStore

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]

STATE_KEY = "nanobanana"
MAX_CACHED_BYTES = 1024**3
KEEP_SECONDS = 15 * 86_400.0  # as long as the service keeps its links


def nanobanana_lifespan(
    lifespan: Lifespan | None = None,
    *,
    client: Callable[[], Client] | None = None,
    limiter: Callable[[], Limiter] | None = None,
    jobs: str | os.PathLike[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    secret: str | None = None,
    max_queued: int = 1000,
    max_queued_per_owner: int = 100,
    max_finished: int = 10_000,
    max_cached_bytes: int = MAX_CACHED_BYTES,
    **options: Any,
) -> Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """A lifespan for `FastAPI(lifespan=…)` that owns one client per worker; yours, `lifespan`, runs inside it.

    `options` are the Client's; or `client` makes it, for one of your own. `limiter` makes the limiter, called in the
    worker that uses it. `jobs` is a file where one account's jobs are remembered: all workers of a host find each
    other's, and a restart goes on with what waited and ran. Without it they live in this process. `images` is a folder
    where all images are kept; without it they are fetched when asked for, into a temporary one of about
    `max_cached_bytes`. `secret` signs the receipts; it is made from the API key unless given (with `accounts` or
    `client`, give one). At most `max_queued` jobs of the router may wait, and `max_queued_per_owner` of one caller;
    `max_finished` ended ones are remembered, for 15 days at most.

    Raises, at start-up: ConfigurationError.
    """
    if client is not None and (options or limiter):
        raise TypeError("give these options to the client that you make: " + ", ".join([*options, "limiter"]))

    @asynccontextmanager
    async def nanobanana(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with AsyncExitStack() as stack:
            shared = await _open_limiter(stack, limiter)
            opened = client() if client is not None else Client(limiter=shared, **options)
            service = JobService(
                opened,
                JobStore(_path(jobs), secrets.token_hex(8), max_finished=max_finished, keep_seconds=KEEP_SECONDS),
                ImageFolder(opened, _path(images), max_bytes=max_cached_bytes),
                Receipts(secret or _secret_of(options.get("api_key"))),
                Room(max_queued, max_queued_per_owner),
            )
            await stack.enter_async_context(_serving(service))
            yours = await stack.enter_async_context(lifespan(app)) if lifespan is not None else None
            stack.enter_context(_startup_frozen())
            yield {**(yours or {}), STATE_KEY: service}

    return nanobanana


async def get_service(connection: HTTPConnection) -> JobService:
    """The jobs of the application that answers this request."""
    service = getattr(connection.state, STATE_KEY, None)
    if not isinstance(service, JobService):
        raise RuntimeError("no client is open: make the app with FastAPI(lifespan=nanobanana_lifespan())")
    return service


async def get_client(connection: HTTPConnection) -> Client:
    """The application's client, as a dependency; `ClientDep` is its annotation."""
    return (await get_service(connection)).client


ClientDep = Annotated[Client, Depends(get_client)]
"""`async def handler(client: ClientDep)`: the worker's one client."""


@asynccontextmanager
async def _serving(service: JobService) -> AsyncIterator[None]:
    """All that a service holds, opened in order and closed in the other: the client before the store."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.store)
        stack.callback(service.store.leave)
        await stack.enter_async_context(service.images)
        await stack.enter_async_context(_beating(service))  # until the client has closed: that may take a while
        await stack.enter_async_context(service.client)
        stack.callback(service.close)
        stack.enter_context(before_the_end(service.leave))
        yield


@asynccontextmanager
async def _beating(service: JobService) -> AsyncIterator[None]:
    """Live among other workers while the block runs. Its errors leave as they are, in no group."""
    failed: Exception | None = None
    async with anyio.create_task_group() as group:
        if service.store.shared:
            group.start_soon(Adoption(service).run)
        try:
            yield
        except Exception as error:
            failed = error
        finally:
            group.cancel_scope.cancel()
    if failed is not None:
        raise failed


@contextmanager
def _startup_frozen() -> Iterator[None]:
    """Leave what the start-up made out of full garbage collections: to walk all of it stops the loop for 75 ms."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _open_limiter(stack: AsyncExitStack, make: Callable[[], Limiter] | None) -> Limiter | None:
    """Made here, closed here."""
    if make is None:
        return None
    limiter = make()
    if isinstance(limiter, AbstractAsyncContextManager):
        await stack.enter_async_context(limiter)
    else:
        stack.push_async_callback(limiter.aclose)
    return limiter


def _secret_of(api_key: str | None) -> str:
    """The same in all workers and after a restart, where there is a key to tell it from."""
    try:
        return find_api_key(api_key)
    except ConfigurationError:
        return secrets.token_hex(32)


def _path(given: str | os.PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given)
