"""A server that refuses every request as one with a wrong key, and knows when the first POST came."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from typing import Self

_BODY = b'{"error": "Invalid API key", "type": "authentication_error"}'
_REFUSAL = (
    b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n" % len(_BODY)
) + _BODY


class Listener:
    """Listens until the block is left."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/api/v1"
        self._asked_at: float | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def asked(self) -> float:
        """When the first POST since the last call came, by `time.perf_counter`. Raises: RuntimeError without one."""
        moment, self._asked_at = self._asked_at, None
        if moment is None:
            raise RuntimeError("nothing was posted")
        return moment

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            with connection:
                if connection.recv(65536).startswith(b"POST") and self._asked_at is None:
                    self._asked_at = time.perf_counter()
                connection.sendall(_REFUSAL)
