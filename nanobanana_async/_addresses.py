"""Base URLs, links and proxies: which addresses are taken, and how one gets there. Pure, but for the environment."""

from __future__ import annotations

import logging
import os
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from ._exceptions import ConfigurationError

_LOGGER = logging.getLogger(__name__)

DEFAULT_BASE_URL = "https://www.nananobanana.com/api/v1"
BASE_URL_VARIABLE = "NANO_BANANA_BASE_URL"
_SHOWN = 80  # characters of an address that a message repeats


def find_base_url(base_url: str | None = None) -> str:
    """The base URL given, else the environment's, else the service's."""
    return base_url or os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL


def check_base_url(base_url: str) -> str:
    """`base_url` without its trailing slash. Raises: ConfigurationError when it is no http(s) URL."""
    url = base_url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or parts.query or parts.fragment:
        source = BASE_URL_VARIABLE if base_url == os.environ.get(BASE_URL_VARIABLE) else "base_url"
        told = f"{source} is no base URL: {_shown(url)} has to be http(s), plain, like {DEFAULT_BASE_URL}"
        raise ConfigurationError(told)
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        _LOGGER.warning("the API key goes over plain http to %s; use https", parts.hostname)
    return url


def find_proxy(url: str) -> str | None:
    """The environment's proxy for `url`; none between us and an emulator on this machine."""
    parts = urlsplit(url)
    if _is_loopback(parts.hostname) or proxy_bypass(parts.hostname or ""):
        return None
    proxy = getproxies().get(parts.scheme)
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def origin_of(url: str) -> str:
    """Scheme, host and port of an absolute URL."""
    return "/".join(url.split("/", 3)[:3])


def show_link(url: str) -> str:
    """A URL fit for a message: signed links carry secrets in their query."""
    return url.split("?", 1)[0][:200]


def as_given(url: str) -> URL:
    """Signed links break when re-quoted, so what is already ASCII is taken as encoded."""
    return URL(url, encoded=url.isascii() and " " not in url)


def _shown(address: str) -> str:
    """An address for a message, unless it may be the key, or hold a password: they, too, get into the wrong place."""
    plain = address.split("?")[0].split("#")[0][:_SHOWN]
    secret = "@" in address or "nb_" in address or not set(plain) & set("./:")
    return "its value, which is not shown as it may be a secret," if secret and address else repr(plain)


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False
