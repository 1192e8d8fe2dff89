"""The statements of the round trips (`aqueue.store.postgres.round_trips`). Each takes and returns many jobs at once.

`FOR UPDATE SKIP LOCKED` lets any number of pools claim at the same time without waiting for each other. A result
is stored only if its attempt still belongs to this pool: compare and set, on the job's number, the pool and the token.
The pool is compared in a way that no index can serve (`IS NOT DISTINCT FROM`), so that jobs are found by their numbers:
the index by pool is full of dead rows of earlier claims as long as a snapshot keeps vacuum from removing them.
"""

from datetime import datetime

import msgspec

from aqueue.store.postgres.rows import SET, UPDATED_ARRAYS, UPDATED_COLUMNS, JobRow
from aqueue.store.postgres.statement import Statement, columns

NOTIFY_READY = """pg_notify('aqueue', json_build_object(
        'type', 'Ready', 'queue', job.queue, 'rank', job.rank, 'due', extract(epoch FROM job.due))::text)"""
CLEAR_ATTEMPT = "pool = NULL, host = NULL, worker = NULL, token = NULL, started = NULL, cancel = false"


class Settled(msgspec.Struct, frozen=True, gc=False):
    """A job whose result was stored."""

    seq: int


class Claimed(JobRow, frozen=True, gc=False):
    """A job that was claimed."""

    first: int
    """The number of the first job that its queue had, whoever has locked that."""


_STORE = f"""
    new AS (
        SELECT * FROM unnest(%(tokens)s::text[], {UPDATED_ARRAYS}) AS new (settled_token, {UPDATED_COLUMNS})
    ), stored AS (
        UPDATE aqueue.job AS job SET {SET}, {CLEAR_ATTEMPT} FROM new
        WHERE job.seq = new.seq AND NOT job.ended AND job.token = new.settled_token
            AND job.pool IS NOT DISTINCT FROM %(run)s
        RETURNING job.seq, job.id, job.queue, job.rank, job.due, job.ready, job.ended, job.awaited
    ), settled AS (
        SELECT seq, CASE
            WHEN ready THEN {NOTIFY_READY}
            WHEN ended AND awaited
                THEN pg_notify('aqueue', json_build_object('type', 'Ended', 'ids', json_build_array(id))::text)
            END AS notified FROM stored AS job
    )"""
_CLAIM = """
    pool AS MATERIALIZED (
        SELECT run, host FROM aqueue.pool WHERE run = %(run)s FOR KEY SHARE
    ), found AS (
        SELECT next.*, first.seq AS first FROM pool,
            unnest(%(queues)s::text[], %(ranks)s::int[], %(dues)s::timestamptz[], %(from)s::bigint[])
                AS served (queue, rank, due, seq),
            LATERAL (
                SELECT seq FROM aqueue.job_active AS job
                WHERE ready AND job.queue = served.queue
                    AND (job.rank, job.due, job.seq) >= (served.rank, served.due, served.seq)
                ORDER BY rank, due, seq LIMIT 1
            ) AS first,
            LATERAL (
                SELECT seq, rank, due FROM aqueue.job_active AS job
                WHERE ready AND job.queue = served.queue
                    AND (job.rank, job.due, job.seq) >= (served.rank, served.due, served.seq)
                ORDER BY rank, due, seq LIMIT %(count)s FOR UPDATE SKIP LOCKED
            ) AS next
        ORDER BY rank, due, seq LIMIT %(count)s
    ), assigned AS (
        SELECT seq, first, (%(slots)s::int[])[row_number() OVER (ORDER BY rank, due, seq)] AS slot FROM found
    ), claimed AS (
        UPDATE aqueue.job_active AS job SET state = 'processing', ready = false, begun = begun + 1, pool = pool.run,
            host = pool.host, worker = assigned.slot, started = clock_timestamp(),
            token = pool.run || '.' || assigned.slot || '.' || job.seq || '-' || begun + 1
        FROM assigned, pool
        WHERE job.seq = assigned.seq
        RETURNING job.seq, state, job.host, worker, token, started, record, first
    )"""
"""The token is `aqueue.attempts.files.Token` as text."""

SETTLE = Statement[Settled | Claimed](f"WITH {_STORE} SELECT {columns(Settled)} FROM settled", Settled)
"""Store the results `rows.write_parameters` of the attempts `tokens`; returns the jobs whose result was stored."""

CLAIM = Statement[Settled | Claimed](f"WITH {_CLAIM} SELECT {columns(Claimed)} FROM claimed", Claimed)
"""Claim the next jobs of the served queues, from the scan position on in each, for the free worker `slots`. A pool
that another one has declared lost claims nothing."""


def _settled_or_claimed(settled_seq: int | None, *claimed: object) -> Settled | Claimed:
    return Claimed(*claimed) if settled_seq is None else Settled(settled_seq)  # type: ignore[arg-type]


_NO_CLAIM = ", ".join(f"NULL AS {name}" for name in Claimed.__struct_fields__)
SETTLE_AND_CLAIM = Statement[Settled | Claimed](
    f"""
    WITH {_STORE}, {_CLAIM}
    SELECT NULL::bigint AS settled_seq, {columns(Claimed)} FROM claimed
    UNION ALL SELECT seq AS settled_seq, {_NO_CLAIM} FROM settled""",  # a FULL JOIN ON false costs 2 % of throughput
    _settled_or_claimed,
)
"""Both at once, which takes half the time of one after the other."""

SETTLE_OR_CLAIM = {(True, True): SETTLE_AND_CLAIM, (True, False): SETTLE, (False, True): CLAIM}
"""By whether there are results, and free workers."""

BY_SEQ = Statement(f"SELECT {columns(JobRow)} FROM aqueue.job WHERE seq = ANY(%(seqs)s::bigint[])", JobRow)
"""The jobs of these numbers."""

HELD = Statement(
    f"SELECT {columns(JobRow)} FROM aqueue.job_active WHERE state = 'processing' AND pool = %(run)s", JobRow
)
"""The jobs that a pool holds, as the table has it."""

QUEUES = Statement("SELECT name FROM aqueue.queue", str)

UPDATE = f"""
    UPDATE aqueue.job AS job SET {SET}, {CLEAR_ATTEMPT}
    FROM unnest({UPDATED_ARRAYS}) AS new ({UPDATED_COLUMNS}) WHERE job.seq = new.seq"""
"""Replace jobs, whose rows are locked, by `rows.write_parameters`."""

RETURN = Statement(
    f"""
    UPDATE aqueue.job_active AS job SET state = unclaimed.state, ready = true, begun = begun - 1, {CLEAR_ATTEMPT}
    FROM unnest(%(tokens)s::text[], %(starts)s::timestamptz[], %(seqs)s::bigint[], %(states)s::text[])
        AS unclaimed (token, started, seq, state)
    WHERE job.seq = unclaimed.seq AND job.token = unclaimed.token AND job.started = unclaimed.started
        AND job.pool IS NOT DISTINCT FROM %(run)s
    RETURNING job.seq, {NOTIFY_READY}""",
    lambda seq, _: Settled(seq),
)
"""Return claimed jobs whose command was never started to their queues. The next claim of the same attempt has the same
token, but never the same start: a statement that is executed late, from a lost connection, returns nothing."""

LOCKED = Statement(
    """
    WITH free AS MATERIALIZED (
        SELECT seq FROM aqueue.job_active WHERE seq = ANY(%(seqs)s::bigint[]) FOR UPDATE SKIP LOCKED
    )
    SELECT seq FROM aqueue.job_active WHERE seq = ANY(%(seqs)s::bigint[]) AND seq NOT IN (SELECT seq FROM free)""",
    int,
)
"""Which of these jobs another transaction has locked, by number."""

PROMOTE = Statement(
    f"""
    UPDATE aqueue.job_active AS job SET ready = true WHERE seq IN (
        SELECT seq FROM aqueue.job_active WHERE NOT ready AND state IN ('pending', 'failed') AND due <= now()
        ORDER BY due LIMIT 1000 FOR UPDATE SKIP LOCKED)
    RETURNING job.seq, {NOTIFY_READY}""",
    lambda seq, _: Settled(seq),
)
"""Make jobs ready whose time has come."""


class NextDue(msgspec.Struct, frozen=True):
    """When the first of the jobs that wait for their time becomes due."""

    due: datetime | None


SELECT_NEXT_DUE = """
    SELECT least((SELECT min(due) FROM aqueue.job_active WHERE NOT ready AND state = 'pending'),
                 (SELECT min(due) FROM aqueue.job_active WHERE NOT ready AND state = 'failed'))"""
NEXT_DUE = Statement(SELECT_NEXT_DUE, NextDue)

PASSED_OVER = Statement(
    """
    SELECT EXISTS (
        SELECT FROM unnest(%(queues)s::text[], %(ranks)s::int[], %(dues)s::timestamptz[], %(from)s::bigint[])
                AS served (queue, rank, due, seq),
            LATERAL (
                SELECT FROM aqueue.job_active AS job
                WHERE ready AND job.queue = served.queue
                    AND (job.rank, job.due, job.seq) >= (served.rank, served.due, served.seq) LIMIT 1
            ) AS next)""",
    bool,
)
"""Whether there are jobs that a claim with these parameters could have taken, had others not locked them."""

PIN_PLANS = Statement(
    """
    SELECT set_config(name, setting, false) FROM (VALUES
        ('plan_cache_mode', 'force_generic_plan'), ('jit', 'off'), ('enable_seqscan', 'off'),
        ('enable_bitmapscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off')
    ) AS pinned (name, setting)""",
    str,
)
"""Has these statements planned once in each connection, and in the one way that is good, by index, whatever the
tables contain at that moment."""
