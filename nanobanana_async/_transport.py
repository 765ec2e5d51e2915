"""The only file that touches aiohttp's client: sends requests, and turns its errors into ours.

Whether a request may have reached the server decides about money, so that is kept apart: `ConnectError` means that
it never left; every other `TransportError` means that it may have.
"""

from __future__ import annotations

import asyncio
import io
import platform
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ._addresses import DEFAULT_BASE_URL, as_given, check_base_url, find_proxy, origin_of, show_link
from ._credentials import Credentials
from ._exceptions import (
    ConfigurationError,
    ConnectError,
    RequestTimeoutError,
    ResponseDecodingError,
    TransportError,
)
from ._sse import MAX_EVENT_BYTES
from ._timeouts import Timeouts
from ._version import __version__
from ._wire import Response

USER_AGENT = f"nanobanana-async/{__version__} Python/{platform.python_version()} aiohttp/{aiohttp.__version__}"
KEEPALIVE_SECONDS = 4.0  # below the 5 s of the shortest-lived common servers: a POST must not race their close
READ_BUFFER = 256 * 1024  # bytes; with aiohttp's 64 KiB a large image costs four times the wake-ups
LARGE_BODY = 512 * 1024  # bytes
MAX_ANSWER_BYTES = MAX_EVENT_BYTES  # unpacked; what a stream may tell in one event, any other answer may tell as well
PROXIES = 64  # origins whose proxies are remembered
URLS = 512  # of looks, remembered with what aiohttp works out about each; a job is looked at five times


class OpenResponse:
    """An answer whose body is still to be read."""

    def __init__(self, response: aiohttp.ClientResponse, what: str, scrub: Callable[[bytes], bytes] = bytes) -> None:
        self._response = response
        self._what = what
        self.scrub = scrub
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._response.release()
        await self._response.wait_for_close()

    async def chunk(self) -> bytes:
        """What has come of the body, as soon as there is any; nothing at its end.

        Raises: TransportError when it breaks off.
        """
        try:
            return await self._response.content.readany()
        except FOREIGN_ERRORS as error:
            raise _translated(self._what, error) from error

    async def read(self) -> Response:
        """The rest of the body, whole, without the key should the server repeat it. Raises: TransportError."""
        try:
            body = await _read_whole(self._response, self._what)
        except FOREIGN_ERRORS as error:
            raise _translated(self._what, error) from error
        return Response(self.status, self.headers, self.scrub(body))


class Transport:
    """HTTP to the API, with the key, and to anywhere else, without it.

    One session per running loop, made on first use. A session given by the caller stays the caller's.
    """

    def __init__(
        self,
        api_key: str | None,
        *,
        base_url: str = DEFAULT_BASE_URL,
        timeouts: Timeouts | None = None,
        session: aiohttp.ClientSession | None = None,
        user_agent: str | None = None,
    ) -> None:
        self.base_url = check_base_url(base_url)
        self._origin = origin_of(self.base_url)
        self.timeouts = timeouts or Timeouts()
        self._user_agent = user_agent or USER_AGENT
        if not self._user_agent.isprintable():
            raise ConfigurationError(f"{user_agent!r} is no user agent: it has to be one line")
        self._credentials = Credentials(api_key, user_agent=self._user_agent)
        self._given = session
        self._own: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._find_proxy = find_proxy

    def use_key(self, api_key: str) -> None:
        """Go on with another key of the same account."""
        self._credentials = Credentials(api_key, user_agent=self._user_agent)

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
        """One exchange with the API, answer read whole, up to MAX_ANSWER_BYTES.

        Raises: ConnectError (never sent), RequestTimeoutError, ResponseDecodingError, TransportError.
        """
        limit = self._limit(total=timeout or self.timeouts.request_timeout)
        response = await self._send(method, path, params, body, limit, authenticated)
        try:
            text = await _read_whole(response, f"{method} {path}")
        except FOREIGN_ERRORS as error:
            raise _translated(f"{method} {path}", error) from error
        return Response(response.status, response.headers, self._credentials.scrub(text))

    async def stream(self, path: str, *, body: bytes, idle_timeout: float) -> OpenResponse:
        """POST, and the answer while it comes; `idle_timeout` bounds every silence, `generation_timeout` the whole.

        For an `async with`, which closes it. Raises: TransportError.
        """
        limit = self._limit(total=self.timeouts.generation_timeout, sock_read=idle_timeout)
        response = await self._send("POST", path, None, body, limit, True)
        return OpenResponse(response, f"POST {path}", self._credentials.scrub)

    async def fetch(self, url: str, *, headers: Mapping[str, str] | None = None) -> OpenResponse:
        """GET any URL, never with the key; redirects are followed.

        For an `async with`, which closes it. Raises: TransportError.
        """
        limit = self._limit(sock_read=self.timeouts.download_timeout)
        sent = {"User-Agent": self._user_agent, "Accept": "image/*,*/*;q=0.1", **(headers or {})}
        what = f"GET {show_link(url)}"
        session = self._session()
        try:
            response = await session.get(
                as_given(url), headers=sent, timeout=limit, raise_for_status=False, proxy=self._proxy(origin_of(url))
            )
        except FOREIGN_ERRORS as error:
            raise _translated(what, error) from error
        return OpenResponse(response, what)

    async def aclose(self) -> None:
        """Close our own session. Idempotent."""
        session, self._own, self._loop = self._own, None, None
        if session is not None:
            await session.close()

    async def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        limit: aiohttp.ClientTimeout,
        authenticated: bool,
    ) -> aiohttp.ClientResponse:
        session = self._session()
        try:
            return await session.request(
                method,
                _url(self.base_url, path, *(params or {}).items()),
                data=_payload(body),
                headers=self._credentials.headers(authenticated=authenticated, with_body=body is not None),
                timeout=limit,
                allow_redirects=False,  # the key must not cross to another origin, nor a POST be sent twice
                raise_for_status=False,  # a caller's session may do so, and would turn a refusal into a lost answer
                proxy=self._proxy(self._origin),
            )
        except FOREIGN_ERRORS as error:
            raise _translated(f"{method} {path}", error) from error

    def _limit(self, *, total: float | None = None, sock_read: float | None = None) -> aiohttp.ClientTimeout:
        return _client_timeout(self.timeouts.connect_timeout, total, sock_read)

    def _proxy(self, origin: str) -> str | None:
        """The environment's proxy, as it was when the session began; a caller's session has its own.

        Not by aiohttp's trust_env, which reads ~/.netrc as well: what it finds there displaces or refuses our key.
        """
        return None if self._given is not None else self._find_proxy(origin)

    def _session(self) -> aiohttp.ClientSession:
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if self._own is None or self._own.closed or self._loop is not loop:
            self._own, self._loop = self._new_session(), loop
            self._find_proxy = lru_cache(PROXIES)(find_proxy)  # to read the environment takes 30 µs
        return self._own

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # No cap: slots, polls and downloads are bounded by their owners; a pool must never be what waits.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BUFFER,
        )


async def _read_whole(response: aiohttp.ClientResponse, what: str) -> bytes:
    """An answer's body, as far as memory goes: aiohttp's own `read` has no end of its own.

    Raises: ResponseDecodingError for one that is longer; FOREIGN_ERRORS.
    """
    content = response.content
    try:
        body = await content.readany()
        if not content.at_eof():
            body = await _read_on(body, content, what)
        if response.connection is not None:  # the request is still being written
            await response.wait_for_close()
    except BaseException:
        response.close()  # a connection with something left in it can't be given back
        raise
    return body


async def _read_on(start: bytes, content: aiohttp.StreamReader, what: str) -> bytes:
    chunks, size = [start], len(start)
    while chunk := await content.readany():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise ResponseDecodingError(f"{what}: the answer is longer than {MAX_ANSWER_BYTES:,} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


@lru_cache(URLS)
def _url(base_url: str, path: str, *params: tuple[str, str]) -> URL:
    """Quoted here, and taken as it is by aiohttp, which would take a query apart and build it again."""
    query = "&".join([f"{name}={_quote(value)}" for name, value in params])
    return URL(f"{URL(base_url)}{path}{'?' if query else ''}{query}", encoded=True)


def _quote(value: str) -> str:
    return value if _needs_no_quotes(value) else quote(value, safe="")


_needs_no_quotes = re.compile(r"[0-9A-Za-z_.~-]*").fullmatch


@lru_cache(64)
def _client_timeout(connect: float, total: float | None, sock_read: float | None) -> aiohttp.ClientTimeout:
    """`connect` covers the wait for a place in a caller's own pool, too."""
    return aiohttp.ClientTimeout(total=total, connect=connect, sock_connect=connect, sock_read=sock_read)


FOREIGN_ERRORS = (aiohttp.ClientError, OSError)  # a TimeoutError is an OSError


def _translated(what: str, error: Exception) -> TransportError:
    """aiohttp's errors as ours. Only a ConnectError says that nothing was sent."""
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return ConnectError(f"{what}: no connection ({_reason(error)}); check the network and the base URL")
    if isinstance(error, TimeoutError):  # aiohttp's own timeouts among them
        return RequestTimeoutError(f"{what}: no answer in time")
    if isinstance(error, aiohttp.ClientPayloadError):
        return ResponseDecodingError(f"{what}: the answer broke off ({_reason(error)})")
    if isinstance(error, aiohttp.InvalidURL):
        return ConnectError(f"{what}: not a usable URL")
    if isinstance(error, aiohttp.ClientResponseError):
        _bare(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectError(f"{what}: the proxy answered {error.status}; check HTTPS_PROXY")
    if isinstance(error, aiohttp.ClientResponseError):
        return TransportError(f"{what}: {error.message or type(error).__name__}")
    return TransportError(f"{what}: the connection broke ({_reason(error)})")


def _bare(error: aiohttp.ClientResponseError) -> None:
    """Take the headers of its request out of an error: they would show the key to whoever prints it."""
    error.request_info = error.request_info._replace(headers=CIMultiDictProxy(CIMultiDict()))
    error.args = (error.request_info, error.history)


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """Large bodies as a file: written in pieces, they don't hold up the loop (and aiohttp warns of raw ones)."""
    return io.BytesIO(body) if body is not None and len(body) > LARGE_BODY else body


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
