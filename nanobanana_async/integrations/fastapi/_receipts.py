"""Receipts: an owner's lasting name for a generation, checked without remembering anything. Pure.

A receipt is the generation's id and a MAC over it and its owner. So a result stays reachable for as long as the
service knows it, when its job has long been forgotten, on any worker and after any restart; and only for its owner.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MAC_BYTES = 16  # 128 bits: not to be guessed


class Receipts:
    """Writes and checks receipts with one secret, the same for all workers."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"nanobanana_async receipts\0" + secret.encode()).digest()

    def write(self, generation_id: str, owner: str) -> str:
        """The receipt of a generation for its owner; fit for a path of a URL."""
        plain = _PLAIN_ID.fullmatch(generation_id)
        name = generation_id if plain else "~" + _base64(generation_id.encode())
        return f"{name}.{self._mac(generation_id, owner)}"

    def read(self, receipt: str, owner: str) -> str | None:
        """The generation's id; None when this is no receipt of this owner."""
        name, dot, mac = receipt.rpartition(".")
        generation_id = _from_base64(name[1:]) if name.startswith("~") else name
        if not dot or not generation_id:
            return None
        genuine = hmac.compare_digest(mac.encode(), self._mac(generation_id, owner).encode())
        return generation_id if genuine else None

    def _mac(self, generation_id: str, owner: str) -> str:
        parts = (generation_id.encode(), owner.encode())
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return _base64(hmac.digest(self._key, message, "sha256")[:_MAC_BYTES])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _from_base64(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return ""
