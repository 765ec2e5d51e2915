"""`batch`, `gallery`, `demo`: what they make, what they say, and what they cost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from commands import POLLS, Outcome, manifest

from nanobanana_async.cli import _demo
from nanobanana_async.emulator import Fault, FaultPlan, ThreadedEmulator

Run = Callable[..., Outcome]
Write = Callable[[str, str | bytes], Path]


def test_batch_makes_the_whole_folder(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """Images, manifest and gallery, and the sums on stdout."""
    told = batch(write("p.txt", "a\nb\nc\n"))
    assert told.code == 0
    assert told.out.startswith("3 of 3 rows stored in out/images\n3 credits in ")
    assert [row["status"] for row in manifest()] == ["stored"] * 3
    assert all((Path("out") / file).exists() for row in manifest() for file in row["files"])
    assert Path("out/index.html").exists()


def test_batch_says_plain_lines_without_a_terminal(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """Done, running, queued, failed and credits, with nothing that only a terminal understands."""
    told = batch(write("p.txt", "a\nb\n"))
    assert "2/2 done, 0/4 running, 0 queued, 0 failed, 2 credits" in told.err
    assert "\x1b" not in told.err


def test_batch_again_does_nothing_and_costs_nothing(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """Running the command again is always safe."""
    batch(write("p.txt", "a\nb\n"))
    again = batch("p.txt")
    assert again.code == 0
    assert "Nothing is left to submit" in again.err
    assert emulator.ledger.credits_charged == 2


def test_batch_takes_rows_that_were_added(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """A longer input is the same batch, gone on."""
    batch(write("p.txt", "a\nb\n"))
    again = batch(write("p.txt", "a\nb\nc\n"))
    assert "2 rows known, 1 new" in again.err
    assert emulator.ledger.charged_prompts() == ["a", "b", "c"]


def test_batch_reads_standard_input(batch: Run, emulator: ThreadedEmulator) -> None:
    """`-` is standard input, as lines or JSON lines."""
    assert batch("-", stdin=b'{"prompt": "a", "quantity": 2}\n{"prompt": "b"}\n').code == 0
    assert [len(row["files"]) for row in manifest()] == [2, 1]


def test_batch_with_failures_is_1_and_retries_on_request(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """What failed is named with its index in the manifest; only `--retry-failed` pays for it again."""
    emulator.faults = FaultPlan(Fault("submit", "fail_generation", prompt="b", times=1))
    first = batch(write("p.txt", "a\nb\nc [unsafe]\n"))
    assert first.code == 1
    assert "row 1: failed:" in first.err
    assert "row 2: rejected:" in first.err
    assert batch("p.txt").code == 1
    assert emulator.ledger.charged_prompts().count("b") == 1
    batch("p.txt", "--retry-failed")
    assert [row["status"] for row in manifest()] == ["stored", "stored", "rejected"]


def test_rows_without_an_attempt_left_are_told_and_no_advice_is_given(
    batch: Run, write: Write, emulator: ThreadedEmulator
) -> None:
    """After three that failed: neither the plan nor the end says that --retry-failed would help."""
    batch(write("p.txt", "a [fail]\nb\n"))
    again = batch("p.txt", "--retry-failed")
    assert "1 failed; --retry-failed looks at them" in again.out
    last = batch("p.txt", "--retry-failed")
    none_left = batch("p.txt", "--retry-failed")
    assert "1 row gave up after 3 attempts\nNothing is left to submit.\n" in none_left.err
    for told in (last, none_left, batch("p.txt")):
        assert told.code == 1
        assert "1 gave up after 3 attempts\n" in told.out
        assert "retry-failed" not in told.out
    assert emulator.ledger.charges == 4


def test_dry_run_tells_the_cost_and_leaves_nothing(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """Neither a credit nor a folder."""
    told = batch(
        write("p.jsonl", '{"prompt": "a", "quantity": 3}\n{"prompt": "b", "model": "nanobanan-2"}\n'), "--dry-run"
    )
    assert told.code == 0
    assert "2 rows, 4 images, 5 credits of the account's 100" in told.err
    assert emulator.ledger.charges == 0
    assert not Path("out").exists()


def test_dry_run_of_a_batch_leaves_it_as_it_is(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """A look at what a retry would cost doesn't make it one, and new rows are only counted."""
    batch(write("p.txt", "a [fail]\n"))
    told = batch(write("p.txt", "a [fail]\nb\n"), "--dry-run", "--retry-failed")
    assert "2 rows, 2 images, 2 credits" in told.err
    batch(write("p.txt", "a [fail]\n"))
    assert emulator.ledger.charged_prompts() == ["a [fail]"]


def test_own_columns_are_told_before_anything_is_spent(run: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """Whoever meant `count` for a quantity sees that it is none."""
    told = run("batch", write("p.csv", "prompt,ratio,count\na,1:1,3\n"), "-o", "out", *POLLS)
    assert "1 row, 1 image, 1 credit of the account's 100\n" in told.err
    assert "own columns: ratio, count\n" in told.err
    assert emulator.ledger.charges == 0
    assert "own columns" not in run("batch", write("q.txt", "a\n"), "-o", "out", *POLLS).err


def test_dedupe_is_counted_before_it_is_done(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """The plan leaves out what the run leaves out."""
    told = batch(write("p.txt", "a\na\nb\n"), "--dedupe")
    assert "2 rows, 2 images, 2 credits" in told.err
    assert emulator.ledger.charged_prompts() == ["a", "b"]


def test_keys_that_come_twice_are_told_before_anything_is_spent(
    run: Run, write: Write, emulator: ThreadedEmulator
) -> None:
    """Nothing is overwritten, but whoever joins the manifest by key would mix them up."""
    rows = '{"prompt": "a", "key": "x"}\n\n{"prompt": "b", "key": "y"}\n{"prompt": "c", "key": "x"}\n'
    told = run("batch", "-", "-o", "out", *POLLS, stdin=rows.encode())
    assert emulator.ledger.charges == 0
    assert "standard input: 1 key stands on more than one line: 'x' (lines 1, 4)\n" in told.err
    assert "more than one line" not in run("batch", write("p.csv", "key,prompt\nx,a\ny,a\n,b\n,b\n"), "-o", "out").err


def test_rows_with_one_key_are_drawn_both(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """A key is the user's own: it names neither files nor what is the same."""
    assert batch(write("p.csv", "key,prompt\nx,a\nx,a\n")).code == 0
    assert [(row["index"], row["key"], row["status"]) for row in manifest()] == [(0, "x", "stored"), (1, "x", "stored")]
    assert len({row["files"][0] for row in manifest()}) == 2


def test_batch_asks_nobody_without_a_terminal(run: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """Scripts say `--yes`, or spend nothing."""
    told = run("batch", write("p.txt", "a\n"), "-o", "out", *POLLS)
    assert (told.code, emulator.ledger.charges) == (2, 0)
    assert "--yes" in told.err


def test_a_refused_batch_is_not_remembered(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """Whoever mends an input that costs too much starts with the mended one."""
    assert batch(write("p.txt", "a\nb\nc\n"), "--max-credits", "1").code == 4
    assert not Path("out").exists()
    assert batch(write("p.txt", "z\n"), "--max-credits", "1").code == 0
    assert emulator.ledger.charged_prompts() == ["z"]


def test_partial_runs_as_far_as_the_budget_goes(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """Never a credit more, and the rest with a larger budget."""
    told = batch(write("p.txt", "a\nb\nc\n"), "--max-credits", "2", "--partial")
    assert (told.code, emulator.ledger.credits_charged) == (4, 2)
    assert "run again with a larger --max-credits" in told.err
    assert "1 left\n" in told.out  # and no other advice
    assert batch("p.txt", "--max-credits", "3").code == 0


def test_an_empty_account_ends_the_batch_until_a_recharge(
    batch: Run, write: Write, emulator: ThreadedEmulator, account: Any
) -> None:
    """402 in the middle is 4; what ran is stored, and the next run does the rest."""
    account.credits = 2
    told = batch(write("p.txt", "a\nb\nc\n"), "--partial")
    assert told.code == 4
    assert told.out.startswith("2 of 3 rows stored")
    assert "402" in told.err
    account.credits = 10
    assert batch("p.txt").code == 0
    assert sorted(emulator.ledger.charged_prompts()) == ["a", "b", "c"]


def test_max_concurrency_is_a_ceiling(batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """Below the account's own limit of 4."""
    emulator.emulator.duration = 0.1
    batch(write("p.txt", "a\nb\nc\nd\ne\n"), "--max-concurrency", "2")
    assert emulator.ledger.peak_active <= 2


def test_gallery_is_rebuilt(batch: Run, run: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """From the journal, or from the manifest alone."""
    batch(write("p.txt", "a\n"))
    Path("out/index.html").unlink()
    assert run("gallery", "out").out == "out/index.html\n"
    assert Path("out/index.html").exists()
    for file in Path("out").glob("batch.db*"):
        file.unlink()
    assert run("gallery", "out").code == 0


@pytest.mark.parametrize("folder", ["nosuch", "."])
def test_gallery_of_no_batch_is_2(run: Run, folder: str) -> None:
    """A folder without a batch, or none at all."""
    told = run("gallery", folder)
    assert told.code == 2
    assert "folder of a batch" in told.err


@pytest.fixture
def quick_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, on a faster service."""
    for name, seconds in (("MEDIAN_SECONDS", 0.01), ("FIRST_POLL", 0.02), ("POLL_INTERVAL", 0.02)):
        monkeypatch.setattr(_demo, name, seconds)


@pytest.mark.usefixtures("quick_demo")
def test_demo_makes_a_whole_folder_and_again(run: Run) -> None:
    """No key, no network; the second one is drawn anew, since its emulator is."""
    first = run("demo", "-o", "demo")
    second = run("demo", "-o", "demo")
    assert (first.code, second.code) == (0, 0)
    assert "24 of 24 rows stored" in second.out
    assert "earlier demo" in second.err
    rows = manifest("demo")
    assert {row["status"] for row in rows} == {"stored"}
    files = [Path("demo") / file for row in rows for file in row["files"]]
    assert sorted(files) == sorted(Path("demo/images").iterdir())
    assert json.dumps(rows[0]["prompt"])[1:20] in Path("demo/index.html").read_text()


@pytest.mark.usefixtures("quick_demo")
def test_demo_leaves_another_batch_alone(run: Run, batch: Run, write: Write, emulator: ThreadedEmulator) -> None:
    """Somebody's paid images are in it."""
    batch(write("p.txt", "a\n"))
    told = run("demo", "-o", "out")
    assert told.code == 2
    assert "not a demo" in told.err
    assert [row["prompt"] for row in manifest()] == ["a"]


def _of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])


def _torn_inside(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 3)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda path: path.write_bytes(b"garbage" * 1000), "no batch's journal or is broken"),
        (_of_another_program, "another program's database"),
        (_cut_off, "is broken"),
        (_torn_inside, "is broken"),
    ],
)
def test_a_journal_that_is_none_is_named(
    batch: Run, write: Write, emulator: ThreadedEmulator, harm: Callable[[Path], None], told: str
) -> None:
    """Not the copy that the costs are told from, and not as a bug; nothing is spent."""
    journal = Path("out/batch.db")
    if harm is _of_another_program:
        journal.parent.mkdir()
    else:
        batch(write("p.txt", "a\n"))
    harm(journal)
    broken = batch(write("p.txt", "a\nb\n"))
    assert broken.code == 2
    assert broken.err.startswith("Error: out/batch.db")
    assert told in broken.err
    assert "b" not in emulator.ledger.charged_prompts()
