"""Waking another process of this host: an empty datagram on the loopback says "look at the book".

Nothing is told by it, so one that is lost or forged costs a look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

_LOGGER = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1"


class Wakes(asyncio.DatagramProtocol):
    """`address` is this process's, empty where there is no loopback: then whoever waits looks by itself."""

    def __init__(self) -> None:
        self.address = ""
        self._wake: Callable[[], None] = lambda: None
        self._transport: asyncio.DatagramTransport | None = None

    async def open(self, wake: Callable[[], None]) -> None:
        """Call `wake` for each datagram."""
        self._wake = wake
        try:
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: self, local_addr=(_LOOPBACK, 0)
            )
        except OSError as error:
            _LOGGER.debug("no datagrams on the loopback: %s", error)
        else:
            self.address = str(self._transport.get_extra_info("sockname")[1])

    def send(self, address: str) -> None:
        """Wake the process of this address."""
        if self._transport is not None and address.isdecimal():
            self._transport.sendto(b".", (_LOOPBACK, int(address)))

    def close(self) -> None:
        """Stop."""
        if self._transport is not None:
            self._transport.close()

    # ---- called by the loop

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._wake()

    def error_received(self, exc: Exception) -> None:
        """Nobody is there any more; its death is noticed elsewhere."""
