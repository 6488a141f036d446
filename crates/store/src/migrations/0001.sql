-- One row: what belongs to the home as a whole.
CREATE TABLE home (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL
) STRICT;
INSERT INTO home (one, epoch) VALUES (1, 0);

-- The state of every task after its last event. Times are nanoseconds since 1970, here and below.
CREATE TABLE tasks (
    id      INTEGER PRIMARY KEY,
    seq     INTEGER NOT NULL,
    wake_at INTEGER,
    state   TEXT NOT NULL
) STRICT;
CREATE INDEX tasks_wake_at ON tasks (wake_at) WHERE wake_at IS NOT NULL;

-- The projection that lists read. Apart from `tasks`, so that a list does not wade through states.
CREATE TABLE summaries (
    task       INTEGER PRIMARY KEY REFERENCES tasks (id),
    phase      TEXT NOT NULL,
    repository TEXT NOT NULL,
    summary    TEXT NOT NULL
) STRICT;
CREATE INDEX summaries_phase ON summaries (phase, task);

-- Nothing is ever deleted from the journal, so a plain integer key rises for ever.
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    task     INTEGER NOT NULL REFERENCES tasks (id),
    seq      INTEGER NOT NULL,
    dedup    TEXT NOT NULL,
    version  INTEGER NOT NULL,
    envelope TEXT NOT NULL,
    receipt  TEXT NOT NULL,
    UNIQUE (task, seq),
    UNIQUE (task, dedup)
) STRICT;
CREATE UNIQUE INDEX submissions ON events (dedup) WHERE seq = 1;

CREATE TABLE outbox (
    task    INTEGER NOT NULL REFERENCES tasks (id),
    command INTEGER NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (task, command)
) STRICT, WITHOUT ROWID;

-- Model calls: reserved, then settled. Clustered by task, because every reservation adds up its task's calls.
CREATE TABLE calls (
    task            INTEGER NOT NULL,
    id              TEXT NOT NULL,
    attempt         INTEGER NOT NULL,
    reserved_at     INTEGER NOT NULL,
    reserved_cost   INTEGER,
    reserved_tokens INTEGER NOT NULL,
    settled_at      INTEGER,
    model           TEXT,
    input           INTEGER,
    cache_read      INTEGER,
    cache_write     INTEGER,
    output          INTEGER,
    cost            INTEGER,
    estimated       INTEGER,
    PRIMARY KEY (task, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE transcript (
    position INTEGER PRIMARY KEY,
    task     INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    entry    TEXT NOT NULL
) STRICT;
CREATE INDEX transcript_task ON transcript (task, position, attempt);

CREATE TABLE secrets (
    scope  TEXT NOT NULL,
    name   TEXT NOT NULL,
    nonce  BLOB NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;

-- Bounded: the youngest rows stay.
CREATE TABLE check_cache (
    age   INTEGER PRIMARY KEY,
    key   TEXT NOT NULL UNIQUE,
    value TEXT NOT NULL
) STRICT;
