-- The SQLite store, schema version 3. Times are milliseconds since 1970 UTC; states are the numbers of store/base.py.

CREATE TABLE endpoint (
  id        INTEGER PRIMARY KEY,
  namespace TEXT NOT NULL,
  deleted   INTEGER NOT NULL DEFAULT 0,
  record    BLOB NOT NULL               -- EndpointRecord as JSON
);

CREATE TABLE worker (
  id          INTEGER PRIMARY KEY,
  endpoint_id INTEGER NOT NULL,
  status      INTEGER NOT NULL,
  created_ms  INTEGER NOT NULL,
  updated_ms  INTEGER NOT NULL,
  reason      TEXT
);
CREATE INDEX worker_of ON worker (endpoint_id, id);

CREATE TABLE task (
  seq          INTEGER PRIMARY KEY,     -- order of submission, over all endpoints
  endpoint_id  INTEGER NOT NULL,
  task_id      TEXT NOT NULL,
  state        INTEGER NOT NULL,
  fence        INTEGER NOT NULL,        -- leases so far: only the newest may end the task
  strikes      INTEGER NOT NULL,        -- attempts that ended without an answer, but for the server's own crashes
  worker_id    INTEGER,
  worker_url   TEXT,
  leased_ms    INTEGER,                 -- the newest lease
  deadline_ms  INTEGER,
  next_ms      INTEGER,
  webhook      TEXT,
  error        TEXT,
  created_ms   INTEGER NOT NULL,
  updated_ms   INTEGER NOT NULL,
  ended_ms     INTEGER
);
CREATE UNIQUE INDEX task_by_id ON task (endpoint_id, task_id);
CREATE INDEX task_by_state ON task (endpoint_id, state, seq);
CREATE INDEX task_waiting ON task (next_ms) WHERE state = 2;

-- Apart from `task`, so that a move never writes a 10 MB input again.
CREATE TABLE task_input (
  seq              INTEGER PRIMARY KEY,
  worker_port      INTEGER NOT NULL,
  process_uri      TEXT NOT NULL,
  webhook_auth_key TEXT,
  headers          BLOB,
  input            BLOB NOT NULL
);
CREATE TABLE task_output (
  seq    INTEGER PRIMARY KEY,
  output BLOB NOT NULL
);

-- Leases that did not end their task. The one that did, or that a worker has, is in the task's own row: a task that
-- goes well costs nothing here.
CREATE TABLE attempt (
  task_seq   INTEGER NOT NULL,
  fence      INTEGER NOT NULL,
  worker_id  INTEGER NOT NULL,
  worker_url TEXT NOT NULL,
  leased_ms  INTEGER NOT NULL,
  ended_ms   INTEGER NOT NULL,
  reason     TEXT,
  PRIMARY KEY (task_seq, fence)
) WITHOUT ROWID;

-- Kept by every move, because `total` and `processing` are asked for all the time and count(*) is slow.
CREATE TABLE task_count (
  endpoint_id INTEGER NOT NULL,
  state       INTEGER NOT NULL,
  n           INTEGER NOT NULL,
  PRIMARY KEY (endpoint_id, state)
) WITHOUT ROWID;

-- The same by blocks of 2**bits seqs, small and large ones (sqlite_counts.py); no row has n = 0.
CREATE TABLE task_block (
  endpoint_id INTEGER NOT NULL,
  bits        INTEGER NOT NULL,
  block       INTEGER NOT NULL,         -- seq >> bits
  state       INTEGER NOT NULL,
  n           INTEGER NOT NULL,
  PRIMARY KEY (endpoint_id, bits, block, state)
) WITHOUT ROWID;

-- The outbox: a task's row is written by the transaction that ends the task.
CREATE TABLE delivery (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,  -- receivers tell deliveries apart by it: never given twice
  task_seq     INTEGER,
  worker_id    INTEGER,
  url          TEXT NOT NULL,
  destination  TEXT NOT NULL,           -- scheme, host and port of it: each receiver is taken up apart
  auth_key     TEXT,
  body         BLOB,                    -- of worker deliveries; a task's is made from the task when it is sent
  state        INTEGER NOT NULL,
  attempts     INTEGER NOT NULL,
  next_ms      INTEGER NOT NULL,
  note         TEXT,
  delivered_ms INTEGER,
  updated_ms   INTEGER NOT NULL
);
CREATE UNIQUE INDEX delivery_of_task ON delivery (task_seq) WHERE task_seq IS NOT NULL;
CREATE INDEX delivery_of_worker ON delivery (worker_id) WHERE worker_id IS NOT NULL;
CREATE INDEX delivery_due ON delivery (destination, next_ms, id) WHERE state = 0;
CREATE INDEX delivery_inflight ON delivery (id) WHERE state = 1;

CREATE TABLE delivery_attempt (
  delivery_id INTEGER NOT NULL,
  number      INTEGER NOT NULL,         -- from 1
  started_ms  INTEGER NOT NULL,
  ended_ms    INTEGER NOT NULL,
  note        TEXT,                     -- why it was not acknowledged
  PRIMARY KEY (delivery_id, number)
) WITHOUT ROWID;

-- What must be remembered although the rows that show it are gone: 'seq', the highest one that was given.
CREATE TABLE mark (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;
