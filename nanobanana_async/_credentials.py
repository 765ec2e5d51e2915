"""The API key: as requests carry it, and crossed out of what comes back. Pure."""

from __future__ import annotations

from multidict import CIMultiDict, CIMultiDictProxy

from ._exceptions import ConfigurationError

SHORTEST_SECRET = 6  # characters; to cross out shorter keys would cross out words of the answer


class Credentials:
    """A key, or None, and the name that the client goes by. Its repr shows no key.

    Headers are made once: every look carries the same.
    """

    __slots__ = ("_headers", "_secret")

    def __init__(self, api_key: str | None, *, user_agent: str) -> None:
        self._secret = None if api_key is None else api_key.encode()
        plain = {"User-Agent": user_agent, "Accept": "application/json, text/event-stream"}
        typed = {"Content-Type": "application/json"}
        key = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._headers = {
            (authenticated, with_body): CIMultiDictProxy(
                CIMultiDict(plain | (typed if with_body else {}) | (key if authenticated else {}))
            )
            for authenticated in (False, True)
            for with_body in (False, True)
        }

    def __repr__(self) -> str:
        return f"<Credentials [key: {'none' if self._secret is None else 'nb_***'}]>"

    def headers(self, *, authenticated: bool, with_body: bool) -> CIMultiDictProxy[str]:
        """What a request to the API carries. Raises: ConfigurationError where it needs a key and there is none."""
        if authenticated and self._secret is None:
            raise ConfigurationError("no API key: pass api_key, or set NANO_BANANA_API_KEY")
        return self._headers[authenticated, with_body]

    def scrub(self, body: bytes) -> bytes:
        """An answer without the key, should the server repeat it."""
        secret = self._secret
        return body.replace(secret, b"nb_***") if secret is not None and len(secret) >= SHORTEST_SECRET else body
