-- What a call is paid from besides its task's budget: a JSON list of the purses' keys.
ALTER TABLE calls ADD COLUMN purses TEXT NOT NULL DEFAULT '[]';
ALTER TABLE calls ADD COLUMN reasoning INTEGER;

-- The sums of calls by what pays for them: `task 12`, or `purse` and its key. Kept with every reservation and settlement, so that
-- neither has to add up the calls before it.
CREATE TABLE totals (
    payer           TEXT PRIMARY KEY,
    calls           INTEGER NOT NULL,
    input           INTEGER NOT NULL,
    cache_read      INTEGER NOT NULL,
    cache_write     INTEGER NOT NULL,
    output          INTEGER NOT NULL,
    reasoning       INTEGER NOT NULL,
    cost            INTEGER NOT NULL,
    unpriced_calls  INTEGER NOT NULL,
    estimated_calls INTEGER NOT NULL,
    open_calls      INTEGER NOT NULL,
    open_cost       INTEGER NOT NULL,
    open_tokens     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- By the rules of `ledger::charge`. Summed as reals where a sum of absurd amounts would overflow, and bounded.
INSERT INTO totals
SELECT 'task ' || task,
       sum(settled_at IS NOT NULL),
       coalesce(CAST(total(input) AS INTEGER), 0),
       coalesce(CAST(total(cache_read) AS INTEGER), 0),
       coalesce(CAST(total(cache_write) AS INTEGER), 0),
       coalesce(CAST(total(output + CASE WHEN estimated
           THEN max(0, reserved_tokens - (input + cache_read + cache_write + output)) ELSE 0 END) AS INTEGER), 0),
       0,
       CAST(total(CASE WHEN settled_at IS NULL THEN 0
           WHEN estimated THEN max(coalesce(cost, 0), coalesce(reserved_cost, 0))
           ELSE coalesce(cost, reserved_cost, 0) END) AS INTEGER),
       sum(settled_at IS NOT NULL AND cost IS NULL AND reserved_cost IS NULL),
       sum(settled_at IS NOT NULL AND (estimated OR (cost IS NULL AND reserved_cost IS NOT NULL))),
       sum(settled_at IS NULL),
       CAST(total(CASE WHEN settled_at IS NULL THEN reserved_cost END) AS INTEGER),
       CAST(total(CASE WHEN settled_at IS NULL THEN reserved_tokens END) AS INTEGER)
FROM calls
GROUP BY task;

-- Exchanges with models, in the order in which they ended: `number` rises over all lives of the home. A request is kept as what lies
-- between the `prefix` and the `suffix`, in bytes, that it has in common with the request of exchange `base`.
CREATE TABLE exchanges (
    number       INTEGER PRIMARY KEY,
    task         INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    turn         INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    protocol     TEXT NOT NULL,
    path         TEXT NOT NULL,
    status       INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    whole        INTEGER NOT NULL,
    base         INTEGER,
    prefix       INTEGER NOT NULL,
    suffix       INTEGER NOT NULL,
    -- Bytes of the request's middle, and of the response after it: both are in `body`, one Zstandard frame with a checksum.
    request      INTEGER NOT NULL,
    response     INTEGER NOT NULL,
    body         BLOB NOT NULL
) STRICT;
CREATE INDEX exchanges_attempt ON exchanges (task, attempt, at);
