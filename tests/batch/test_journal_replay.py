"""Any steps in any order, reopened at any moment: the journal equals a dictionary."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections import Counter
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nanobanana_async import GenerateRequest, Generation
from nanobanana_async.batch._inputs import Row
from nanobanana_async.batch._journal import Journal
from nanobanana_async.batch._journal_rows import ASIDE, JobState

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
PRICES = st.none() | st.integers(0, 9)
ROWS = st.tuples(TEXT, st.none() | TEXT, st.sampled_from([None, "pro"]), st.integers(1, 4))
SUMS = "SELECT state, ifnull(model, ''), count(*), sum(quantity), sum(surcharge), sum(spent), sum(reserved) FROM job"


@dataclass(frozen=True)
class Known:
    """What the journal should know of a job."""

    row: Row
    state: JobState = JobState.READY
    attempts: int = 0
    cost: int | None = None
    credits: int | None = None
    prior: int = 0
    generation_id: str | None = None
    urls: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    error: str | None = None
    log: tuple[JobState, ...] = field(default=())

    def moved(self, state: JobState, **changes) -> Known:
        told = {name: value for name, value in changes.items() if value is not None}
        return replace(self, state=state, log=(*self.log, state), **told)


class JournalMachine(RuleBasedStateMachine):
    """The model is `self.known`, by index. A job is chosen by a number, taken modulo those that may take the step."""

    @initialize(rows=st.lists(ROWS, min_size=1, max_size=4))
    def begin(self, rows):
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.known: dict[int, Known] = {}
        self.stack = AsyncExitStack()
        self.enter()
        self.add(rows)

    def teardown(self):
        if not hasattr(self, "runner"):
            return
        self.check_tables()
        self.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()

    def enter(self):
        self.journal = self.run(self.stack.enter_async_context(Journal.open(self.path, synchronous="OFF")))

    def run(self, awaitable):
        async def wait():
            return await awaitable

        return self.runner.run(wait())

    def pick(self, number, *states):
        able = [known for known in self.known.values() if known.state in states]
        return able[number % len(able)] if able else None

    def put(self, known):
        self.known[known.row.index] = known

    @rule(rows=st.lists(ROWS, max_size=3))
    def add(self, rows):
        """A longer input: what was there, and more."""
        start = len(self.known)
        for index, (prompt, key, model, quantity) in enumerate(rows, start):
            request = GenerateRequest(prompt=prompt, model=model, quantity=quantity)
            self.put(Known(Row(index, index + 1, key, request, {"own": prompt})))
        added = self.run(self.journal.add_rows([known.row for known in self.known.values()]))
        assert (added.added, added.known) == (len(rows), start)

    @rule(number=st.integers(0, 99), cost=PRICES)
    def intend(self, number, cost):
        if known := self.pick(number, JobState.READY):
            self.run(self.journal.intend(known.row.index, cost))
            self.put(replace(known.moved(JobState.INTENT), attempts=known.attempts + 1, cost=cost))

    @rule(number=st.integers(0, 99))
    def withdraw(self, number):
        if known := self.pick(number, JobState.INTENT):
            self.run(self.journal.withdrawn(known.row.index))
            self.put(replace(known.moved(JobState.READY), attempts=known.attempts - 1, cost=None))

    @rule(number=st.integers(0, 99), name=st.none() | TEXT, price=PRICES)
    def accept(self, number, name, price):
        if known := self.pick(number, JobState.INTENT, JobState.UNCERTAIN):
            self.run(self.journal.accepted(known.row.index, name, price, None))
            self.put(replace(known.moved(JobState.RUNNING, generation_id=name, credits=price), error=None))

    @rule(number=st.integers(0, 99), price=PRICES, urls=st.lists(TEXT, min_size=1, max_size=2))
    def complete(self, number, price, urls):
        if known := self.pick(number, JobState.RUNNING):
            made = Generation(id="", prompt="", model="", image_urls=tuple(urls), credits_used=price)
            self.run(self.journal.completed(known.row.index, made))
            self.put(known.moved(JobState.COMPLETED, credits=price, urls=tuple(urls)))

    @rule(number=st.integers(0, 99), files=st.lists(TEXT, max_size=2))
    def store(self, number, files):
        if known := self.pick(number, JobState.COMPLETED):
            self.run(self.journal.stored(known.row.index, files))
            self.put(known.moved(JobState.STORED, files=tuple(files)))

    @rule(number=st.integers(0, 99), state=st.sampled_from(sorted(ASIDE)), error=TEXT, price=PRICES)
    def end(self, number, state, error, price):
        if known := self.pick(number, JobState.INTENT, JobState.RUNNING, JobState.UNCERTAIN):
            self.run(self.journal.ended(known.row.index, state, error, credits=price))
            ended = known.moved(state, error=error, credits=price)
            if state is JobState.FAILED and ended.credits is None and ended.generation_id is None:
                ended = replace(ended, cost=None)
            if state is JobState.LOST and ended.credits is None:
                ended = replace(ended, credits=ended.cost)
            self.put(ended)

    @rule(state=st.sampled_from(sorted(ASIDE)), max_attempts=st.none() | st.integers(1, 3))
    def requeue(self, state, max_attempts):
        moved = [
            known
            for known in self.known.values()
            if known.state is state and (max_attempts is None or known.attempts < max_attempts)
        ]
        assert self.run(self.journal.requeue(state, max_attempts=max_attempts)) == len(moved)
        for known in moved:
            paid = known.cost if known.credits is None and known.generation_id else known.credits
            again = Known(known.row, attempts=known.attempts, prior=known.prior + (paid or 0))
            self.put(replace(again, log=(*known.log, JobState.READY)))

    @rule()
    def reopen(self):
        self.run(self.stack.aclose())
        self.enter()

    @rule()
    @precondition(lambda self: any(known.state is JobState.INTENT for known in self.known.values()))
    def crash(self):
        self.reopen()
        doubtful = [known for known in self.known.values() if known.state is JobState.INTENT]
        lost = [known for known in self.known.values() if known.state is JobState.RUNNING and not known.generation_id]
        assert self.run(self.journal.doubt_intents()) == len(doubtful)
        errors = {row.index: row.error for row in self.rows()}
        for known in doubtful:
            self.put(known.moved(JobState.UNCERTAIN, error=errors[known.row.index]))
        for known in lost:
            price = known.cost if known.credits is None else known.credits
            self.put(known.moved(JobState.LOST, error=errors[known.row.index], credits=price))

    def rows(self):
        return self.run(self.journal.unfinished(*JobState, limit=999))

    @invariant()
    def rows_equal_the_model(self):
        found = [
            Known(
                Row(row.index, row.line, row.key, row.request, row.extra),
                *(row.state, row.attempts, row.cost, row.credits),
                generation_id=row.generation_id,
                urls=row.urls,
                files=row.files,
                error=row.error,
            )
            for row in self.rows()
        ]
        assert found == [replace(known, prior=0, log=()) for known in self.known.values()]

    @invariant()
    def sums_equal_the_model(self):
        counts = self.run(self.journal.counts())
        states = Counter(known.state for known in self.known.values())
        assert {state: sums.rows for state, sums in counts.by_state.items() if sums.rows} == states
        assert counts.credits == sum(known.prior + (known.credits or 0) for known in self.known.values())
        assert counts.reserved == sum(known.cost or 0 for known in self.known.values() if known.credits is None)

    def check_tables(self):
        """The triggers' sums are those of the jobs, and the log has every step."""
        with closing(sqlite3.connect(self.path / "batch.db")) as connection:
            kept = connection.execute("SELECT * FROM tally WHERE jobs > 0 ORDER BY 1, 2").fetchall()
            assert kept == connection.execute(f"{SUMS} GROUP BY 1, 2 ORDER BY 1, 2").fetchall()
            log = connection.execute("SELECT idx, state FROM attempt ORDER BY idx, id").fetchall()
        assert log == [(index, state.value) for index, known in self.known.items() for state in known.log]


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
