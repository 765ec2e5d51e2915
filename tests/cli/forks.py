"""Commands in processes of their own, without the half second that each would need for its imports.

Run as a program it loads the command line once and forks a process for every order: no thread and no event loop is
there yet, so a fork is as good as a fresh start, and each ends as Python programs end.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

PATIENCE = 100.0  # seconds for a command to end, after which the test fails


class Forks:
    """The side of the tests."""

    def __init__(self, root: Path) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": str(root)},
            )
        self._channel.settimeout(PATIENCE)

    def start(self, arguments: list[str], streams: list[int]) -> int:
        """Start a command in this folder and environment, with these three streams; its pid."""
        order = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
        socket.send_fds(self._channel, [json.dumps(order).encode()], streams)
        return int(json.loads(self._channel.recv(100)))

    def wait(self, pid: int) -> int:
        """A process's exit code."""
        self._channel.send(json.dumps({"wait": pid}).encode())
        return int(json.loads(self._channel.recv(100)))

    def close(self) -> None:
        """End the server."""
        self._channel.close()
        self._server.wait(PATIENCE)


def serve(channel: socket.socket) -> None:
    """Fork for every order; what a child returns from here is its end."""
    while True:
        message, streams, *_ = socket.recv_fds(channel, 1 << 20, 3)
        if not message:
            return
        order = json.loads(message)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            channel.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if pid == 0:
            channel.close()
            become(order, streams)
            return
        channel.send(json.dumps(pid).encode())
        for stream in streams:
            os.close(stream)


def become(order: dict[str, Any], streams: list[int]) -> None:
    """Be the command that was ordered."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = ["nanobanana", *order["arguments"]]
    main()


if __name__ == "__main__":
    import nanobanana_async.cli._demo
    import nanobanana_async.cli._generate
    import nanobanana_async.cli._live
    import nanobanana_async.cli._look  # noqa: F401 - loaded for the forks
    from nanobanana_async.cli import main
    from nanobanana_async.cli._app import command

    command()
    serve(socket.socket(fileno=int(sys.argv[1])))
