"""One process a folder, and nobody has to clean up after a killed one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from nanobanana_async import JournalError
from nanobanana_async.batch import _lock
from nanobanana_async.batch._lock import LOCK_FILE, FolderLock, is_locked

pytestmark = pytest.mark.usefixtures("impatient")

HOLD = """
import sys
from pathlib import Path
from nanobanana_async.batch._lock import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def impatient(monkeypatch):
    """Nobody but the owner looks at the lock here, so a refusal need not wait."""
    monkeypatch.setattr(_lock, "_PATIENCE", 0.0)


@contextmanager
def holder(folder):
    """Another process that holds the folder until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_told_who_works_here_and_a_killed_one_leaves_no_lock(tmp_path):
    """pid, host and time are in the message; after kill -9 the folder is free at once."""
    with holder(tmp_path) as process:
        assert is_locked(tmp_path)
        owner = rf"\(pid {process.pid} on {socket.gethostname()}, since 20..-.*\+00:00\)"
        told = f"another process {owner} works on {tmp_path}"
        with pytest.raises(JournalError, match=told), FolderLock(tmp_path):
            pass
    assert not is_locked(tmp_path)
    with FolderLock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_bytes())["pid"] == os.getpid()


def test_the_same_process_is_refused_as_well(tmp_path):
    with FolderLock(tmp_path):
        with pytest.raises(JournalError, match="this process already works on"), FolderLock(tmp_path):
            pass
        assert is_locked(tmp_path)


def test_a_refusal_leaves_the_lock_with_its_owner(tmp_path):
    with FolderLock(tmp_path):
        before = (tmp_path / LOCK_FILE).read_bytes()
        with pytest.raises(JournalError), FolderLock(tmp_path):
            pass
        assert (tmp_path / LOCK_FILE).read_bytes() == before
        assert is_locked(tmp_path)


def test_leaving_frees_the_folder_and_says_nothing_of_the_past(tmp_path):
    with FolderLock(tmp_path) as lock:
        assert "held" in repr(lock)
    assert "free" in repr(lock)
    assert (tmp_path / LOCK_FILE).read_bytes() == b""
    with FolderLock(tmp_path):
        pass


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    """It has the same open file, as a duplicate here: giving up the lock must not wait for its end."""
    with FolderLock(tmp_path) as lock:
        inherited = os.dup(lock._handle)
    try:
        assert not is_locked(tmp_path)
    finally:
        os.close(inherited)


def test_a_look_at_the_lock_does_not_refuse_who_comes_meanwhile(tmp_path):
    """`is_locked` holds the lock itself for a moment: whoever wants it waits that long."""
    (tmp_path / LOCK_FILE).touch()
    looker = os.open(tmp_path / LOCK_FILE, os.O_RDONLY)
    _lock._try_lock(looker)
    pauses = []

    def look_away(delay):
        pauses.append(delay)
        _lock._unlock(looker)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_lock, "_PATIENCE", 60.0)
        patch.setattr(_lock.time, "sleep", look_away)
        with FolderLock(tmp_path):
            assert len(pauses) == 1
    os.close(looker)


def test_an_owner_that_cannot_be_read_is_refused_without_a_name(tmp_path):
    with FolderLock(tmp_path):
        (tmp_path / LOCK_FILE).write_bytes(b"\xff{")
        with pytest.raises(JournalError, match="another process works on"), FolderLock(tmp_path):
            pass


def test_a_folder_that_is_none_cannot_be_locked(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"can't be locked \(Not a directory\).*local folder"):
        FolderLock(tmp_path / "file").__enter__()
    assert not is_locked(tmp_path / "file")
