"""Slots in a file: where it may lie, what happens to it, and who lives."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

from nanobanana_async import Backoff, ConfigurationError, ConnectError, NotFoundError, RateLimit
from nanobanana_async.integrations._alive import Living
from nanobanana_async.integrations._network_files import is_on_network
from nanobanana_async.integrations.sqlite import SQLiteLimiter, account_id, default_path


async def run_one(limiter: SQLiteLimiter, limit: int = 1):
    slot = await asyncio.wait_for(limiter.acquire(), PATIENCE)
    slot.accepted(RateLimit(limit=limit))
    return slot


async def told(limiter: SQLiteLimiter) -> None:
    """Until it has told what it had to tell."""
    for _ in range(2):
        turn = limiter._changed
        limiter._keeper.poke()
        await asyncio.wait_for(turn.wait(), PATIENCE)


def remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()


# ---- the file -----------------------------------------------------------------------------------------------


async def test_the_file_is_for_its_user_alone_and_holds_no_key(tmp_path: Path) -> None:
    """It is made with its folders."""
    path = tmp_path / "state" / "nanobanana" / "slots.db"
    async with SQLiteLimiter(path, account=account_id("nb_secret", "https://example.com/")) as limiter:
        await run_one(limiter)
        await told(limiter)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        written = b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())
    assert b"nb_secret" not in written
    assert b"example.com" not in written
    assert account_id("nb_secret", "https://example.com").encode() in written


def test_an_account_is_its_key_and_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the environment's, as for a client."""
    monkeypatch.setenv("NANO_BANANA_API_KEY", "nb_one")
    monkeypatch.setenv("NANO_BANANA_BASE_URL", "https://one.example/api")
    assert account_id() == account_id("nb_one", "https://one.example/api/")
    assert len({account_id(), account_id("nb_two"), account_id(base_url="https://two.example/api")}) == 3


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="other systems have other folders")
def test_commands_share_a_file_in_the_users_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the base directory specification says."""
    monkeypatch.setenv("XDG_STATE_HOME", "/where/ever")
    assert default_path() == Path("/where/ever/nanobanana/slots.db")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_path() == Path.home() / ".local/state/nanobanana/slots.db"


@pytest.mark.parametrize("obstacle", ["a file", "a folder", "garbage", "a network"])
async def test_a_place_that_cannot_hold_it_is_told(
    tmp_path: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch, leaks_nothing: None
) -> None:
    """On entering, with the path and what to do."""
    path = tmp_path / "there" / "slots.db"
    if obstacle == "a file":
        path.parent.touch()
    elif obstacle == "a folder":
        path.mkdir(parents=True)
    elif obstacle == "garbage":
        path.parent.mkdir()
        path.write_bytes(b"not a database, and longer than the header of one" * 10)
    else:
        mounts = tmp_path / "mounts"
        mounts.write_text(f"36 35 98:0 / {tmp_path} rw - nfs4 server:/home rw\n")
        monkeypatch.setattr("nanobanana_async.integrations._network_files.MOUNTS", mounts)
    with pytest.raises(ConfigurationError, match=r"slots\.db can't hold the account's slots \(.*\); name a file"):
        await SQLiteLimiter(path, account="mine").__aenter__()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/me/x", True),
        ("/home/local/me", False),
        ("/var", False),
        ("/mnt/with space/x", True),
        ("/homestead", False),
    ],
)
def test_a_network_is_known_by_its_mount(tmp_path: Path, path: str, expected: bool) -> None:
    """The longest mount point that holds the path decides."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
        "2 1 0:5 / /home rw - nfs4 server:/home rw\n"
        "3 2 8:2 / /home/local rw - xfs /dev/sdb rw\n"
        "4 1 0:6 / /mnt/with\\040space rw master:2 - cifs //server/share rw\n"
        "nonsense\n"
    )
    assert is_on_network(Path(path), mounts) is expected


async def test_a_file_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    """Those who live write down what they hold; whoever comes new finds it."""
    path = tmp_path / "slots.db"
    async with SQLiteLimiter(path, account="mine") as one:
        await run_one(one, limit=2)
        await told(one)
        remove(path)
        await told(one)
        async with SQLiteLimiter(path, account="mine") as two:
            await run_one(two, limit=2)
            await told(two)
            assert two.statistics().others == 1


async def test_a_file_that_others_keep_locked_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is handed out meanwhile, and nothing is lost."""
    monkeypatch.setattr("nanobanana_async.integrations._sqlite_store.BUSY_SECONDS", 0.05)
    path = tmp_path / "slots.db"
    async with SQLiteLimiter(path, account="mine") as limiter:
        slot = await run_one(limiter)
        await told(limiter)
        hog = sqlite3.connect(path, isolation_level=None)
        hog.execute("BEGIN IMMEDIATE")
        slot.release()
        waiting = asyncio.create_task(limiter.acquire())
        async with asyncio.timeout(PATIENCE):
            while not limiter._keeper.away:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.01)
        assert not waiting.done()
        hog.execute("ROLLBACK")
        hog.close()
        await asyncio.wait_for(waiting, PATIENCE)


async def test_one_that_may_go_on_alone_does_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command must not wait for ever because a disk is full; what it ran meanwhile the others hear of."""
    monkeypatch.setattr("nanobanana_async.integrations._sqlite_store.BUSY_SECONDS", 0.01)
    monkeypatch.setattr("nanobanana_async.integrations._alone.TRY_AGAIN_SECONDS", 0.1)
    path = tmp_path / "slots.db"
    async with SQLiteLimiter(path, account="mine", alone_after=0.05) as alone:
        await run_one(alone, limit=3)
        await told(alone)
        hog = sqlite3.connect(path, isolation_level=None)
        hog.execute("BEGIN IMMEDIATE")
        await run_one(alone, limit=3)
        assert alone.statistics().running == 2
        hog.execute("ROLLBACK")
        hog.close()
        async with SQLiteLimiter(path, account="mine") as other:
            await run_one(other, limit=3)
            async with asyncio.timeout(PATIENCE):
                while other.statistics().others < 2:
                    await told(alone)
                    await told(other)
            assert other.statistics().limit == 3


async def test_accounts_in_one_file_have_nothing_to_do_with_each_other(tmp_path: Path) -> None:
    """One file serves all keys of a user."""
    path = tmp_path / "slots.db"
    async with SQLiteLimiter(path, account="mine") as mine, SQLiteLimiter(path, account="yours") as yours:
        await run_one(mine)
        await run_one(yours)
        assert mine.statistics().others == yours.statistics().others == 0


# ---- the ends -----------------------------------------------------------------------------------------------


async def test_one_that_closes_leaves_what_runs_to_others(tmp_path: Path) -> None:
    """At once: nobody waits until it was not heard of."""
    looked_at: asyncio.Queue[str] = asyncio.Queue()
    ends = asyncio.Event()

    async def look(generation_id: str) -> bool:
        looked_at.put_nowait(generation_id)
        return ends.is_set()

    path = tmp_path / "slots.db"
    async with SQLiteLimiter(path, account="mine") as stays:
        stays._adopting._pauses = Backoff(initial_delay=0.01, max_delay=0.01)
        stays.look_with(look)
        async with SQLiteLimiter(path, account="mine") as leaves:
            (await run_one(leaves)).named("clx1")
            waiting = asyncio.create_task(stays.acquire())
            await told(stays)
        await told(stays)
        assert await asyncio.wait_for(looked_at.get(), PATIENCE) == "clx1"
        assert not waiting.done()
        ends.set()
        await asyncio.wait_for(waiting, PATIENCE)


async def test_a_look_that_fails_is_repeated(tmp_path: Path) -> None:
    """And when whoever looks has gone, nobody is asked."""
    outcomes = (ConnectError("no network"), NotFoundError("unknown", status_code=404), False, True)
    looks = iter(outcomes)

    async def look(_: str) -> bool:
        outcome = next(looks)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    path = tmp_path / "slots.db"
    async with SQLiteLimiter(path, account="mine") as leaves:
        (await run_one(leaves)).named("clx1")
    async with SQLiteLimiter(path, account="mine") as stays:
        stays._adopting._pauses = Backoff(initial_delay=0.01, max_delay=0.01)
        stop = stays.look_with(look)
        await asyncio.wait_for(stays.acquire(), PATIENCE)
        assert next(looks, None) is None
        stop()
        stop()


async def test_one_that_the_service_does_not_know_is_given_up(tmp_path: Path) -> None:
    """It says so three times: it was started anew, or forgets."""

    async def look(_: str) -> bool:
        raise NotFoundError("unknown", status_code=404)

    path = tmp_path / "slots.db"
    async with SQLiteLimiter(path, account="mine") as leaves:
        (await run_one(leaves)).named("clx1")
    async with SQLiteLimiter(path, account="mine") as stays:
        stays._adopting._pauses = Backoff(initial_delay=0.01, max_delay=0.01)
        stays.look_with(look)
        await asyncio.wait_for(stays.acquire(), PATIENCE)


async def test_whoever_waits_when_it_is_closed_is_told(tmp_path: Path) -> None:
    """As for a closed client."""
    limiter = SQLiteLimiter(tmp_path / "slots.db", account="mine")
    await run_one(limiter)
    waiting = asyncio.create_task(limiter.acquire())
    await told(limiter)
    await limiter.aclose()
    await limiter.aclose()
    for late in (waiting, limiter.acquire()):
        with pytest.raises(RuntimeError, match="closed"):
            await late


def test_it_belongs_to_one_event_loop(tmp_path: Path) -> None:
    """Its tasks do."""
    limiter = SQLiteLimiter(tmp_path / "slots.db", account="mine")

    async def use() -> None:
        await limiter.open()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(use())
    loop.run_until_complete(limiter.aclose())
    loop.close()


# ---- who lives ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
def test_only_those_are_dead_whose_lock_is_free(tmp_path: Path) -> None:
    """One without a file may be of another host."""
    with Living(tmp_path, "me") as me, Living(tmp_path, "other"):
        (tmp_path / "gone.alive").touch()
        assert me.dead(["me", "other", "gone", "elsewhere"]) == {"gone"}
        assert me.dead(["other", "gone"]) == set()
        assert sorted(file.name for file in tmp_path.iterdir()) == ["me.alive", "other.alive"]
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # what is left of both
