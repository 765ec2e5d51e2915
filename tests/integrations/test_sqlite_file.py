"""The file that several processes open at once."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from nanobanana_async.integrations._sqlite_file import open_shared

SCHEMA = "CREATE TABLE IF NOT EXISTS things (name TEXT)"


def test_who_opens_a_file_that_another_one_makes_waits_for_it(tmp_path):
    """SQLite itself refuses at once to switch to the log while somebody writes."""
    file = tmp_path / "new.db"
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if holder.in_transaction and len(pauses) == 3:
            holder.execute("COMMIT")

    with closing(sqlite3.connect(file, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        holder.execute("CREATE TABLE theirs (name TEXT)")
        with closing(open_shared(file, SCHEMA, synchronous="NORMAL", busy_seconds=10, sleep=pause)) as db:
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            db.execute("INSERT INTO things VALUES ('banana')")
    assert len(pauses) == 3


def test_a_file_that_stays_locked_is_told(tmp_path):
    """Not waited for any longer than was said."""
    file = tmp_path / "locked.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            open_shared(file, SCHEMA, synchronous="FULL", busy_seconds=0.01)


def test_only_its_owner_may_read_it(tmp_path):
    """Prompts are their callers' own."""
    file = tmp_path / "private.db"
    open_shared(file, SCHEMA, synchronous="FULL", busy_seconds=1).close()
    assert file.stat().st_mode & 0o777 == 0o600
