"""The steps of a job as SQL. Each is a function of the connection, run inside a transaction of the writer.

`intend` and `withdrawn` decide whether money may be spent, so they look at the state the job is in. The others record
what the service said or did, and that is never refused: a paid id that comes late is still a paid id.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from .._exceptions import ContentRejectedError
from .._models import Generation
from .._wire import failure_of
from ._journal_codec import LEFT_OVER, ROW_COLUMNS, encode_list, plain, to_row
from ._journal_rows import ASIDE, JobState, JournalRow

_INTEND = (
    "UPDATE job SET state = 'intent', attempts = attempts + 1, cost = :cost WHERE idx = :index AND state = 'ready'"
)
_WITHDRAW = """
    UPDATE job SET state = 'ready', attempts = attempts - 1, cost = NULL WHERE idx = :index AND state = 'intent'
"""
_ACCEPT = """
    UPDATE job SET state = 'running', generation_id = ifnull(:generation_id, generation_id),
        credits = ifnull(:credits, credits), remaining = :remaining, error = NULL
    WHERE idx = :index
"""
_COMPLETE = """
    UPDATE job SET state = :state, generation_id = ifnull(:generation_id, generation_id),
        credits = ifnull(:credits, credits), urls = :urls, created_at = ifnull(:created_at, created_at),
        expires_at = ifnull(:expires_at, expires_at), files = :files, error = NULL
    WHERE idx = :index
"""
_STORE = "UPDATE job SET state = 'stored', files = :files, error = NULL WHERE idx = :index"

# A failure without an id or a charge was a refusal: what was reserved is free again. What is lost was paid, if not
# told otherwise with what it should cost.
_END = """
    UPDATE job SET
        state = :state, error = :error, generation_id = ifnull(:generation_id, generation_id),
        cost = iif(:state = 'failed' AND ifnull(:credits, credits) IS NULL
                   AND ifnull(:generation_id, generation_id) IS NULL, NULL, cost),
        credits = coalesce(:credits, credits, iif(:state = 'lost', cost, NULL))
    WHERE idx = :index
"""

# The id and the links of the earlier attempt stay in the attempt table, what it took in `prior`.
_REQUEUE = """
    UPDATE job SET
        state = 'ready', prior = prior + coalesce(credits, iif(generation_id IS NULL, 0, cost), 0),
        cost = NULL, credits = NULL, remaining = NULL, generation_id = NULL, created_at = NULL, expires_at = NULL,
        urls = NULL, files = NULL, error = NULL
    WHERE state = :state AND (:max_attempts IS NULL OR attempts < :max_attempts)
"""
_DOUBT = "UPDATE job SET state = 'uncertain', error = :error WHERE state = 'intent'"
_LOSE = """
    UPDATE job SET state = 'lost', credits = ifnull(credits, cost), error = :error
    WHERE state = 'running' AND generation_id IS NULL
"""
_TELL = """
    INSERT INTO account VALUES (1, ?, (SELECT ifnull(max(id), 0) FROM attempt))
    ON CONFLICT DO UPDATE SET balance = excluded.balance, known_at = excluded.known_at
"""

# Answers may be read in another order than the service wrote them. Of two that were on their way together, which is
# when the balance was told after this one's intent, the lower balance is the later one. To take the higher for the
# present one would make it look as if somebody had spent the difference, and an uncertain job be told as paid.
_TELL_AT_ACCEPTANCE = """
    INSERT INTO account VALUES (1, ?, (SELECT ifnull(max(id), 0) FROM attempt))
    ON CONFLICT DO UPDATE SET
        balance = iif(EXISTS (SELECT 1 FROM attempt WHERE id > account.known_at AND idx = ? AND state = 'intent'),
                      excluded.balance, min(balance, excluded.balance)),
        known_at = excluded.known_at
"""
_SPEND = "UPDATE account SET balance = balance - ?, known_at = (SELECT ifnull(max(id), 0) FROM attempt)"
_NO_ID = "the service took it without telling an id, and the process ended before the images came"
_SELECT = f"""
    SELECT {ROW_COLUMNS} FROM job CROSS JOIN input USING (idx)
    WHERE state = ? AND job.idx > ? ORDER BY job.idx LIMIT ?
"""


def intend(connection: sqlite3.Connection, index: int, cost: int | None) -> None:
    """About to be sent. Raises: RuntimeError for a row that is not ready, which could be paid twice."""
    _step(connection, _INTEND, index, cost=cost)


def intend_again(connection: sqlite3.Connection, index: int, cost: int | None) -> None:
    """An uncertain one is about to be sent again, because the user asked for it. Its doubt stays noted as its error."""
    [noted] = connection.execute("SELECT error FROM job WHERE idx = ?", (index,)).fetchone()
    requeue(connection, [JobState.UNCERTAIN], None, [index])
    intend(connection, index, cost)
    connection.execute("UPDATE job SET error = ? WHERE idx = ?", (noted, index))


def put_back(connection: sqlite3.Connection, index: int, error: str) -> None:
    """An uncertain one was not sent again after all: it is as uncertain as before."""
    if _state(connection, index) is not JobState.UNCERTAIN:
        withdrawn(connection, index)
        ended(connection, index, JobState.UNCERTAIN, error, None, None, None)


def withdrawn(connection: sqlite3.Connection, index: int) -> None:
    """Refused, or never sent: as if it had not been tried. An intent that failed leaves nothing to withdraw.

    Raises: RuntimeError for a row that was sent.
    """
    if _state(connection, index) is not JobState.READY:
        _step(connection, _WITHDRAW, index)


def accepted(
    connection: sqlite3.Connection, index: int, generation_id: str | None, price: int | None, remaining: int | None
) -> None:
    """Taken by the service, and paid."""
    told = {"generation_id": plain(generation_id or None), "credits": price, "remaining": remaining}
    _step(connection, _ACCEPT, index, **told)
    _account(connection, index, price, remaining)


def completed(connection: sqlite3.Connection, index: int, generation: Generation) -> None:
    """Made; its links live until `expires_at`. One that ended without images is put aside here and now.

    For whoever tells of it raises the failure next, and a crash between the two would leave a job to download that
    has nothing to download.
    """
    failure = failure_of(generation)
    if failure is not None:
        state = JobState.REJECTED if isinstance(failure, ContentRejectedError) else JobState.FAILED
        ended(connection, index, state, str(failure), generation.id, generation.credits_used, None)
        return
    _completed(connection, index, generation, JobState.COMPLETED)


def completed_and_stored(
    connection: sqlite3.Connection, index: int, generation: Generation, files: Sequence[str]
) -> None:
    """Both in one: made, and on disk."""
    _completed(connection, index, generation, JobState.STORED, files)


def stored(connection: sqlite3.Connection, index: int, files: Sequence[str]) -> None:
    """On disk."""
    _step(connection, _STORE, index, files=encode_list(files))


def ended(
    connection: sqlite3.Connection,
    index: int,
    state: JobState,
    error: str,
    generation_id: str | None,
    price: int | None,
    remaining: int | None,
) -> None:
    """Put aside, for a reason. Raises: ValueError for a state that is no end."""
    if state not in ASIDE:
        raise ValueError(f"a job does not end {state.value}")
    answered = _state(connection, index) is JobState.INTENT and state is not JobState.LOST
    told = {"generation_id": plain(generation_id or None), "credits": price}
    _step(connection, _END, index, state=state.value, error=plain(error), **told)
    if answered:  # rejected at once, say: charged all the same, and never accepted
        _account(connection, index, price, remaining)


def doubt_intents(connection: sqlite3.Connection) -> int:
    """After a crash: intents become uncertain; what was accepted without an id is lost."""
    connection.execute(_LOSE, {"error": _NO_ID})
    return connection.execute(_DOUBT, {"error": LEFT_OVER}).rowcount


def requeue(
    connection: sqlite3.Connection,
    states: Sequence[JobState],
    max_attempts: int | None,
    indexes: Sequence[int] | None,
    without_id: bool = False,
) -> int:
    """Make jobs that were put aside ready again. Raises: ValueError for a state that must not be sent again."""
    wrong = [state.value for state in states if state not in ASIDE]
    if wrong:
        raise ValueError(f"a job that is {wrong[0]} can't be queued again")
    among = "" if indexes is None else " AND idx IN (SELECT value FROM json_each(:indexes))"
    among += " AND generation_id IS NULL" if without_id else ""
    limits = {"max_attempts": max_attempts, "indexes": None if indexes is None else json.dumps(list(indexes))}
    moved = [connection.execute(_REQUEUE + among, {"state": state.value, **limits}).rowcount for state in set(states)]
    return sum(moved)


def select(connection: sqlite3.Connection, states: Sequence[JobState], limit: int, after: int) -> list[JournalRow]:
    """The next rows in any of these states, in index order. A seek for each state: nothing else is read."""
    found = [
        to_row(columns)
        for state in set(states)
        for columns in connection.execute(_SELECT, (state.value, after, limit)).fetchall()
    ]
    return sorted(found, key=lambda row: row.index)[:limit]


# ---- the account's balance ----------------------------------------------------------------------------------


def balance(connection: sqlite3.Connection) -> int | None:
    """The balance as last known."""
    known = connection.execute("SELECT balance FROM account").fetchone()
    return None if known is None else int(known[0])


def set_balance(connection: sqlite3.Connection, told: int) -> None:
    """The balance as it was just told."""
    connection.execute(_TELL, (told,))


def _account(connection: sqlite3.Connection, index: int, price: int | None, remaining: int | None) -> None:
    if remaining is not None:
        connection.execute(_TELL_AT_ACCEPTANCE, (remaining, index))
    elif price:
        connection.execute(_SPEND, (price,))


def _completed(
    connection: sqlite3.Connection,
    index: int,
    generation: Generation,
    state: JobState,
    files: Sequence[str] | None = None,
) -> None:
    created, expires = generation.created_at, generation.expires_at
    _step(
        connection,
        _COMPLETE,
        index,
        state=state.value,
        generation_id=plain(generation.id or None),
        credits=generation.credits_used,
        urls=plain(encode_list(generation.image_urls)),
        created_at=created.isoformat() if created else None,
        expires_at=expires.isoformat() if expires else None,
        files=None if files is None else encode_list(files),
    )


def _state(connection: sqlite3.Connection, index: int) -> JobState | None:
    found = connection.execute("SELECT state FROM job WHERE idx = ?", (index,)).fetchone()
    return JobState(found[0]) if found else None


def _step(connection: sqlite3.Connection, statement: str, index: int, **values: Any) -> None:
    if connection.execute(statement, {"index": index, **values}).rowcount != 1:
        raise RuntimeError(_misplaced(connection, index))


def _misplaced(connection: sqlite3.Connection, index: int) -> str:
    state = _state(connection, index)
    return f"row {index} is {state.value}: this step is not open to it" if state else f"the batch has no row {index}"
