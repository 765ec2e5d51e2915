-- A batch's journal, version 1. What was asked (input) is never changed by a run; how far it is (job) changes
-- with every step, and triggers keep a log of the steps (attempt) and the sums (tally), so no code can forget to.
BEGIN;
PRAGMA application_id = 0x4e42414a;  -- "NBAJ": tells our file from any other SQLite file
PRAGMA user_version = 1;

CREATE TABLE input (
    idx INTEGER PRIMARY KEY,         -- the row's index, from 0
    line INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,       -- of everything below but extra: tells a changed row
    key TEXT,
    prompt TEXT NOT NULL,
    aspect_ratio TEXT,
    extra TEXT,                      -- JSON object: the row's own columns
    refs TEXT                        -- JSON list: links, data URIs, paths; last, for it may be megabytes
);

-- Apart from input, so that a step writes some bytes again and not a prompt and nine pictures.
CREATE TABLE job (
    idx INTEGER PRIMARY KEY REFERENCES input (idx),
    state TEXT NOT NULL DEFAULT 'ready',
    model TEXT,                      -- NULL: the service's default
    quantity INTEGER NOT NULL,
    surcharge INTEGER NOT NULL,      -- credits, for reference images after the first
    attempts INTEGER NOT NULL DEFAULT 0,
    cost INTEGER,                    -- credits this attempt is expected to take
    credits INTEGER,                 -- credits it took; NULL: not told
    remaining INTEGER,               -- the account's balance, as told at its acceptance
    prior INTEGER NOT NULL DEFAULT 0,  -- credits that earlier attempts took
    generation_id TEXT,
    created_at TEXT,
    expires_at TEXT,
    urls TEXT,                       -- JSON list
    files TEXT,                      -- JSON list
    error TEXT,
    spent INTEGER GENERATED ALWAYS AS (prior + ifnull(credits, 0)) VIRTUAL,
    reserved INTEGER GENERATED ALWAYS AS (iif(credits IS NULL, ifnull(cost, 0), 0)) VIRTUAL
);

-- Ends with idx by itself (the rowid), so "the next ready ones after 500000" is one seek, however many are done.
CREATE INDEX job_by_state ON job (state);

CREATE TABLE attempt (               -- append-only: a row for each step of a job
    id INTEGER PRIMARY KEY,
    idx INTEGER NOT NULL,
    number INTEGER NOT NULL,         -- which attempt of this job
    state TEXT NOT NULL,             -- 'ready': withdrawn or queued again
    at TEXT NOT NULL,                -- UTC
    cost INTEGER,
    credits INTEGER,
    remaining INTEGER,
    generation_id TEXT,
    error TEXT
);

CREATE TABLE tally (                 -- sums over job, so that counting a million rows takes no time
    state TEXT NOT NULL,
    model TEXT NOT NULL,             -- '': the service's default
    jobs INTEGER NOT NULL,
    images INTEGER NOT NULL,
    surcharge INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    PRIMARY KEY (state, model)
) WITHOUT ROWID;

CREATE TABLE account (               -- one row: the balance as last known
    id INTEGER PRIMARY KEY CHECK (id = 1),
    balance INTEGER NOT NULL,
    known_at INTEGER NOT NULL        -- the newest attempt.id at that moment
);

CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER job_added AFTER INSERT ON job BEGIN
    INSERT INTO tally VALUES (NEW.state, ifnull(NEW.model, ''), 1, NEW.quantity, NEW.surcharge, NEW.spent, NEW.reserved)
    ON CONFLICT DO UPDATE SET
        jobs = jobs + 1,
        images = images + excluded.images,
        surcharge = surcharge + excluded.surcharge,
        spent = spent + excluded.spent,
        reserved = reserved + excluded.reserved;
END;

CREATE TRIGGER job_moved AFTER UPDATE ON job BEGIN
    UPDATE tally SET
        jobs = jobs - 1,
        images = images - OLD.quantity,
        surcharge = surcharge - OLD.surcharge,
        spent = spent - OLD.spent,
        reserved = reserved - OLD.reserved
    WHERE state = OLD.state AND model = ifnull(OLD.model, '');
    INSERT INTO tally VALUES (NEW.state, ifnull(NEW.model, ''), 1, NEW.quantity, NEW.surcharge, NEW.spent, NEW.reserved)
    ON CONFLICT DO UPDATE SET
        jobs = jobs + 1,
        images = images + excluded.images,
        surcharge = surcharge + excluded.surcharge,
        spent = spent + excluded.spent,
        reserved = reserved + excluded.reserved;
    INSERT INTO attempt (idx, number, state, at, cost, credits, remaining, generation_id, error)
    VALUES (
        NEW.idx, max(OLD.attempts, NEW.attempts), NEW.state, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
        NEW.cost, NEW.credits, NEW.remaining, NEW.generation_id, NEW.error
    );
END;

CREATE TRIGGER job_kept BEFORE DELETE ON job BEGIN SELECT raise(ABORT, 'jobs are never deleted'); END;
CREATE TRIGGER attempt_kept BEFORE DELETE ON attempt BEGIN SELECT raise(ABORT, 'attempts are never deleted'); END;
CREATE TRIGGER attempt_fixed BEFORE UPDATE ON attempt BEGIN SELECT raise(ABORT, 'attempts are never changed'); END;
COMMIT;
