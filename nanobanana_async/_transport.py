"""The only file that touches aiohttp's client: sends requests, and turns its errors into ours.

Whether a request may have reached the server decides about money, so that is kept apart: `ConnectError` means that
it never left; every other `TransportError` means that it may have.
"""

from __future__ import annotations

import asyncio
import io
import logging
import platform
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from pydantic import SecretStr
from yarl import URL

from ._exceptions import (
    ConfigurationError,
    ConnectError,
    RequestTimeoutError,
    ResponseDecodingError,
    TransportError,
)
from ._version import __version__
from ._wire import Response

_LOGGER = logging.getLogger(__name__)

DEFAULT_BASE_URL = "https://www.nananobanana.com/api/v1"
USER_AGENT = f"nanobanana-async/{__version__} Python/{platform.python_version()} aiohttp/{aiohttp.__version__}"
KEEPALIVE_SECONDS = 4.0  # below the 5 s of the shortest-lived common servers: a POST must not race their close
READ_BUFFER = 256 * 1024  # bytes; with aiohttp's 64 KiB a large image costs four times the wake-ups
LARGE_BODY = 512 * 1024  # bytes
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. Every request is finite.

    `connect_timeout` covers DNS, TCP and TLS. `request_timeout` is for polls, models and credits, whole.
    `submit_timeout` is for a submission in async mode: generous, because a lost answer may be a paid image.
    `sync_timeout` is for the one blocking call (10 to 60 s; the vendor advises 120 or more). `idle_timeout` is the
    longest silence of a stream, three of its 15 s heartbeats; `download_timeout` that of a download.
    `generation_timeout` is how long a generation is waited for before GenerationTimeoutError.
    """

    connect_timeout: float = 10.0
    request_timeout: float = 30.0
    submit_timeout: float = 120.0
    sync_timeout: float = 300.0
    idle_timeout: float = 45.0
    download_timeout: float = 60.0
    generation_timeout: float = 900.0

    @classmethod
    def of(cls, timeout: Timeouts | float | None) -> Timeouts:
        """Timeouts as they are; one number for every single request; None for the defaults."""
        if timeout is None:
            return cls()
        if isinstance(timeout, Timeouts):
            return timeout
        return cls(
            connect_timeout=min(timeout, cls().connect_timeout),
            request_timeout=timeout,
            submit_timeout=timeout,
            sync_timeout=timeout,
            idle_timeout=timeout,
            download_timeout=timeout,
        )


class OpenResponse:
    """An answer whose body is still to be read."""

    def __init__(self, response: aiohttp.ClientResponse, what: str) -> None:
        self._response = response
        self._what = what
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.url = str(response.url)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises: TransportError when it breaks off."""
        with _translated(self._what):
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def read(self) -> Response:
        """The rest of the body, whole. Raises: TransportError."""
        with _translated(self._what):
            return Response(self.status, self.headers, await self._response.read())


class Transport:
    """HTTP to the API, with the key, and to anywhere else, without it.

    One session per running loop, made on first use. A session given by the caller stays the caller's.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str = DEFAULT_BASE_URL,
        timeouts: Timeouts | None = None,
        session: aiohttp.ClientSession | None = None,
        user_agent: str | None = None,
    ) -> None:
        self.base_url = check_base_url(base_url)
        self.timeouts = timeouts or Timeouts()
        self._key = SecretStr(api_key)
        self._user_agent = user_agent or USER_AGENT
        self._given = session
        self._own: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<Transport {self.base_url}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a transport holds the API key and open connections; it can't be pickled")

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
        authenticated: bool = True,
    ) -> Response:
        """One exchange with the API, answer read whole.

        Raises: ConnectError (never sent), RequestTimeoutError, ResponseDecodingError, TransportError.
        """
        limit = self._limit(total=timeout or self.timeouts.request_timeout)
        async with self._open(method, path, params, body, limit, authenticated) as response:
            return self._scrub(await response.read())

    @asynccontextmanager
    async def stream(self, path: str, *, body: bytes, idle_timeout: float) -> AsyncIterator[OpenResponse]:
        """POST, and the answer while it comes; `idle_timeout` bounds every silence."""
        limit = self._limit(sock_read=idle_timeout)
        async with self._open("POST", path, None, body, limit, True) as response:
            yield response

    @asynccontextmanager
    async def fetch(self, url: str, *, headers: Mapping[str, str] | None = None) -> AsyncIterator[OpenResponse]:
        """GET any URL, never with the key; redirects are followed. Raises: TransportError."""
        limit = self._limit(sock_read=self.timeouts.download_timeout)
        sent = {"User-Agent": self._user_agent, "Accept": "image/*,*/*;q=0.1", **(headers or {})}
        what = f"GET {_shown(url)}"
        with _translated(what):
            response = await self._session().get(_as_given(url), headers=sent, timeout=limit)
        async with response:
            yield OpenResponse(response, what)

    def scrub(self, text: str) -> str:
        """`text` without the key, should a server have repeated it."""
        return text.replace(self._key.get_secret_value(), "nb_***")

    async def aclose(self) -> None:
        """Close our own session. Idempotent."""
        session, self._own, self._loop = self._own, None, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        limit: aiohttp.ClientTimeout,
        authenticated: bool,
    ) -> AsyncIterator[OpenResponse]:
        what = f"{method} {path}"
        with _translated(what):
            response = await self._session().request(
                method,
                self.base_url + path,
                params=params,
                data=_payload(body),
                headers=self._headers(authenticated, body is not None),
                timeout=limit,
                allow_redirects=False,  # the key must not cross to another origin, nor a POST be sent twice
            )
        async with response:
            yield OpenResponse(response, what)

    def _limit(self, *, total: float | None = None, sock_read: float | None = None) -> aiohttp.ClientTimeout:
        connect = self.timeouts.connect_timeout  # covers the wait for a place in a caller's own pool, too
        return aiohttp.ClientTimeout(total=total, connect=connect, sock_connect=connect, sock_read=sock_read)

    def _headers(self, authenticated: bool, with_body: bool) -> dict[str, str]:
        headers = {"User-Agent": self._user_agent, "Accept": "application/json, text/event-stream"}
        if with_body:
            headers["Content-Type"] = "application/json"
        if authenticated:
            headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        return headers

    def _scrub(self, response: Response) -> Response:
        key = self._key.get_secret_value().encode()
        if key not in response.body:
            return response
        return Response(response.status, response.headers, response.body.replace(key, b"nb_***"))

    def _session(self) -> aiohttp.ClientSession:
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if self._own is None or self._own.closed or self._loop is not loop:
            self._own, self._loop = self._new_session(), loop
        return self._own

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # No cap: slots, polls and downloads are bounded by their owners; a pool must never be what waits.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BUFFER,
            # Proxies of the environment, but none between us and an emulator on this machine.
            trust_env=urlsplit(self.base_url).hostname not in LOOPBACK,
        )


def check_base_url(base_url: str) -> str:
    """`base_url` without its trailing slash. Raises: ConfigurationError when it is no http(s) URL."""
    url = base_url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"{base_url!r} is no base URL; write it like {DEFAULT_BASE_URL}")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        _LOGGER.warning("the API key goes over plain http to %s; use https", parts.hostname)
    return url


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """aiohttp's errors as ours. Those that hold the request's headers are cut off: they would show the key."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise ConnectError(f"{what}: no connection ({_reason(error)}); check the network and the base URL") from error
    except (TimeoutError, aiohttp.ServerTimeoutError) as error:
        raise RequestTimeoutError(f"{what}: no answer in time") from error
    except aiohttp.ClientPayloadError as error:
        raise ResponseDecodingError(f"{what}: the answer broke off ({_reason(error)})") from error
    except aiohttp.InvalidURL as error:
        raise ConnectError(f"{what}: not a usable URL") from error
    except aiohttp.ClientResponseError as error:
        raise TransportError(f"{what}: {error.message or type(error).__name__}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise TransportError(f"{what}: the connection broke ({_reason(error)})") from error


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """Large bodies as a file: written in pieces, they don't hold up the loop (and aiohttp warns of raw ones)."""
    return io.BytesIO(body) if body is not None and len(body) > LARGE_BODY else body


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _shown(url: str) -> str:
    """A URL fit for a message: signed links carry secrets in their query."""
    return url.split("?", 1)[0][:200]


def _as_given(url: str) -> URL:
    """Signed links break when re-quoted, so what is already ASCII is taken as encoded."""
    return URL(url, encoded=url.isascii() and " " not in url)
