"""The tables of a queue in PostgreSQL, and how they come to be what this version expects.

One table of jobs, in two parts: what waits or runs, and what has ended. The first stays small and is vacuumed often,
so that claims cost the same beside ten million ended jobs as beside none; a job moves when its state says so. A
waiting job is `ready` once its time has come: only ready jobs are in the index that claims read.
"""

from aqueue.errors import StoreError
from aqueue.store.postgres.connection import Connection

_STEPS = (
    """
    CREATE TABLE aqueue.job (
        seq bigint NOT NULL,
        ended boolean NOT NULL,
        id text COLLATE "C" NOT NULL,
        state text COLLATE "C" NOT NULL,
        queue text COLLATE "C" NOT NULL,
        rank integer NOT NULL,              -- minus its priority: claims go from low to high
        due timestamptz NOT NULL,
        ready boolean NOT NULL,
        tags text[] NOT NULL,
        changed timestamptz NOT NULL,
        record json NOT NULL,               -- the job as it was before the attempt that runs
        stdout bytea,
        stderr bytea,
        begun integer NOT NULL DEFAULT 0,   -- attempts, the running one included
        pool text,                          -- of the attempt that runs: whose it is, and what names it
        host text,
        worker integer,
        token text,
        started timestamptz,
        cancel boolean NOT NULL DEFAULT false,
        awaited boolean NOT NULL DEFAULT false,
        PRIMARY KEY (seq, ended)
    ) PARTITION BY LIST (ended);
    CREATE TABLE aqueue.job_active PARTITION OF aqueue.job FOR VALUES IN (false)
        WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
              autovacuum_vacuum_cost_delay = 0);
    CREATE TABLE aqueue.job_ended PARTITION OF aqueue.job FOR VALUES IN (true);
    CREATE UNIQUE INDEX job_active_id ON aqueue.job_active (id);
    CREATE UNIQUE INDEX job_ended_id ON aqueue.job_ended (id);
    CREATE INDEX job_active_ready ON aqueue.job_active (queue, rank, due, seq) WHERE ready;
    CREATE INDEX job_active_later ON aqueue.job_active (state, due) WHERE NOT ready AND state IN ('pending', 'failed');
    CREATE INDEX job_active_running ON aqueue.job_active (pool) WHERE state = 'processing';
    CREATE INDEX job_active_failed ON aqueue.job_active (seq) WHERE state = 'failed';
    CREATE INDEX job_ended_changed ON aqueue.job_ended (changed) WHERE state IN ('completed', 'cancelled');
    CREATE INDEX job_ended_dead ON aqueue.job_ended (seq) WHERE state = 'dead';
    CREATE INDEX job_ended_cancelled ON aqueue.job_ended (seq) WHERE state = 'cancelled';
    CREATE SEQUENCE aqueue.job_seq;
    CREATE TABLE aqueue.queue (name text COLLATE "C" PRIMARY KEY);
    CREATE TABLE aqueue.chosen_id (id text COLLATE "C" PRIMARY KEY);  -- also of jobs that were removed
    CREATE TABLE aqueue.pool (
        run text PRIMARY KEY,
        host text NOT NULL,
        home text NOT NULL,                 -- names the directory of its files among those of all hosts
        info json NOT NULL,
        beat timestamptz NOT NULL,
        lease interval NOT NULL,
        stop text
    );
    """,
    # A name that another transaction is just adding would have to be waited for, if it had to be unique.
    """
    ALTER TABLE aqueue.queue DROP CONSTRAINT queue_pkey;
    CREATE INDEX queue_name ON aqueue.queue (name);
    """,
)
VERSION = len(_STEPS)
_ENCODINGS = ("UTF8", "SQL_ASCII")
"""Of a database that takes whatever a command may hold and print."""
_INIT = "aqueue store init, or a pool: aqueue worker start"


async def prepare(connection: Connection) -> int:
    """Bring the tables to this version; return which one they had, 0 for none. Raises `StoreError`."""
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = 0")  # another pool may be at it, and have much to do
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('aqueue schema'))")
        found = await _version(connection)
        if found == 0:
            await connection.execute("CREATE SCHEMA IF NOT EXISTS aqueue")
            await connection.execute("CREATE TABLE IF NOT EXISTS aqueue.version (version integer NOT NULL)")
            await connection.execute("INSERT INTO aqueue.version VALUES (0)")
        _refuse_newer(found)
        for step in _STEPS[found:]:
            await connection.execute(step)
        await connection.execute("UPDATE aqueue.version SET version = %s", (VERSION,))
    return found


async def check(connection: Connection) -> None:
    """Raise `StoreError` unless the tables are of this version."""
    found = await _version(connection)
    _refuse_newer(found)
    if found == 0:
        raise StoreError(f"the database holds no queue yet; this makes one: {_INIT}")
    if found < VERSION:
        raise StoreError(f"the queue in the database is of version {found}; this brings it to {VERSION}: {_INIT}")


def _refuse_newer(found: int) -> None:
    if found > VERSION:
        raise StoreError(f"the queue in the database is of version {found}, and this aqueue knows {VERSION}: update it")


async def _version(connection: Connection) -> int:
    """Which version the tables have, 0 for none. Raises `StoreError` if the database is no place for any."""
    question = "SELECT to_regclass('aqueue.version') IS NOT NULL, current_setting('server_encoding')"
    found = await (await connection.execute(question)).fetchone()
    assert found is not None
    there, encoding = found
    if encoding not in _ENCODINGS:
        raise StoreError(
            f"the database has the encoding {encoding}, in which not every job can be stored: "
            f"make another one for the queue, with {' or '.join(_ENCODINGS)}"
        )
    if not there:
        return 0
    row = await (await connection.execute("SELECT version FROM aqueue.version")).fetchone()
    return int(row[0]) if row else 0
