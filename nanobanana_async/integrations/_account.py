"""A name for an account that doesn't give its key away."""

from __future__ import annotations

import hashlib

from .._accounts import find_api_key
from .._addresses import find_base_url


def account_id(api_key: str | None = None, base_url: str | None = None) -> str:
    """A hash of key and base URL, both by default from the environment as for `Client`.

    Raises: ConfigurationError when there is no key.
    """
    account = f"{find_base_url(base_url).rstrip('/')}\n{find_api_key(api_key)}"
    return hashlib.sha256(b"nanobanana_async slots\n" + account.encode()).hexdigest()[:32]
