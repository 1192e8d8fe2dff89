"""The statements of a pool's traffic. Each takes and returns many jobs at once.

`FOR UPDATE SKIP LOCKED` lets any number of pools claim at the same time without waiting for each other. A result
counts only if its attempt still belongs to this pool: compare and set, on the job's number, the pool and the token.
The pool is compared in a way that no index can serve (`IS NOT DISTINCT FROM`), so that jobs are found by their numbers:
the index of a pool's jobs is full of what it had before, as long as no vacuum may remove that.
"""

from aqueue.store.postgres import rows

READY = """pg_notify('aqueue', json_build_object(
        'type', 'Ready', 'queue', job.queue, 'rank', job.rank, 'due', extract(epoch FROM job.due))::text)"""
FREED = "pool = NULL, host = NULL, worker = NULL, token = NULL, started = NULL, cancel = false"

_STORE = f"""
    given AS (
        SELECT * FROM unnest(%(tokens)s::text[], {rows.CHANGES}) AS given (held_by, {", ".join(rows.CHANGING)})
    ), stored AS (
        UPDATE aqueue.job AS job SET {rows.SET}, {FREED} FROM given
        WHERE job.seq = given.seq AND NOT job.ended AND job.token = given.held_by
            AND job.pool IS NOT DISTINCT FROM %(run)s
        RETURNING job.seq, job.id, job.queue, job.rank, job.due, job.ready, job.ended, job.awaited
    )"""
_TOLD = f"""
    told AS (SELECT seq, CASE
        WHEN ready THEN {READY}
        WHEN ended AND awaited
            THEN pg_notify('aqueue', json_build_object('type', 'Ended', 'ids', json_build_array(id))::text)
        END AS notice FROM stored AS job)"""
_COUNTED = "SELECT seq, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM told"
SETTLE = f"WITH {_STORE}, {_TOLD} {_COUNTED}"
"""Store the results `rows.columns` of attempts `tokens`; returns the numbers of the jobs whose result counted, in rows
like those of `CLAIM` without a state."""

NUMBERED = f"SELECT {rows.PLAIN} FROM aqueue.job WHERE seq = ANY(%(seqs)s::bigint[])"
"""The jobs of these numbers."""

CLAIMED = f"SELECT {rows.PLAIN} FROM aqueue.job_active WHERE state = 'processing' AND pool = %(run)s"
"""The jobs that a pool holds, as the table has it."""

PUT = f"""
    UPDATE aqueue.job AS job SET {rows.SET}, {FREED}
    FROM unnest({rows.CHANGES}) AS given ({", ".join(rows.CHANGING)}) WHERE job.seq = given.seq"""
"""Put `rows.columns` in the place of what the jobs were, which are locked."""

TAKE_BACK = f"""
    UPDATE aqueue.job_active AS job SET state = back.state, ready = true, begun = begun - 1, {FREED}
    FROM unnest(%(tokens)s::text[], %(starts)s::timestamptz[], %(seqs)s::bigint[], %(states)s::text[])
        AS back (held_by, since, seq, state)
    WHERE job.seq = back.seq AND job.token = back.held_by AND job.started = back.since
        AND job.pool IS NOT DISTINCT FROM %(run)s
    RETURNING job.seq, {READY}"""
"""Undo claims whose command was never started; returns the numbers of the jobs. The next claim of the same attempt has
the same token, but never the same time: so one that is carried out late, from a lost connection, undoes nothing."""

LOCKED_OUT = """
    WITH free AS MATERIALIZED (
        SELECT seq FROM aqueue.job_active WHERE seq = ANY(%(seqs)s::bigint[]) FOR UPDATE SKIP LOCKED
    )
    SELECT seq FROM aqueue.job_active WHERE seq = ANY(%(seqs)s::bigint[]) AND seq NOT IN (SELECT seq FROM free)"""
"""Which of these jobs somebody else's transaction has locked."""

PROMOTE = f"""
    UPDATE aqueue.job_active AS job SET ready = true WHERE seq IN (
        SELECT seq FROM aqueue.job_active WHERE NOT ready AND state IN ('pending', 'failed') AND due <= now()
        ORDER BY due LIMIT 1000 FOR UPDATE SKIP LOCKED)
    RETURNING job.seq, {READY}"""
"""Make jobs ready whose time has come."""

NEXT_DUE = """
    SELECT least((SELECT min(due) FROM aqueue.job_active WHERE NOT ready AND state = 'pending'),
                 (SELECT min(due) FROM aqueue.job_active WHERE NOT ready AND state = 'failed'))"""
"""When the job becomes due that waits for its time and comes first."""

_TAKE = """
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
    ), placed AS (
        SELECT seq, first, (%(slots)s::int[])[row_number() OVER (ORDER BY rank, due, seq)] AS slot FROM found
    ), taken AS (
        UPDATE aqueue.job_active AS job SET state = 'processing', ready = false, begun = begun + 1, pool = pool.run,
            host = pool.host, worker = placed.slot, started = clock_timestamp(),
            token = pool.run || '.' || placed.slot || '.' || job.seq || '-' || begun + 1
        FROM placed, pool
        WHERE job.seq = placed.seq
        RETURNING job.seq, state, job.host, worker, token, started, record, first
    )"""
_TAKEN = f"SELECT {rows.PLAIN}, first FROM taken"
CLAIM = f"WITH {_TAKE} {_TAKEN}"
"""Claim the next jobs of the served queues, from a bookmark on in each, for free worker slots; returns them, and with
each the number of the first job that its queue had, whoever has locked that. Nothing is claimed by a pool that another
one has declared lost."""

PASSED_OVER = """
    SELECT EXISTS (
        SELECT FROM unnest(%(queues)s::text[], %(ranks)s::int[], %(dues)s::timestamptz[], %(from)s::bigint[])
                AS served (queue, rank, due, seq),
            LATERAL (
                SELECT FROM aqueue.job_active AS job
                WHERE ready AND job.queue = served.queue
                    AND (job.rank, job.due, job.seq) >= (served.rank, served.due, served.seq) LIMIT 1
            ) AS next)"""
"""Whether there are jobs that a claim with these parameters could have taken, had others not locked them."""

SETTLE_AND_CLAIM = f"""
    WITH {_STORE}, {_TOLD}, {_TAKE}
    {_TAKEN} UNION ALL {_COUNTED}"""
"""Both at once, which takes half the time of one after the other."""

STEADY = """
    SELECT set_config(name, setting, false) FROM (VALUES
        ('plan_cache_mode', 'force_generic_plan'), ('jit', 'off'), ('enable_seqscan', 'off'),
        ('enable_bitmapscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off')
    ) AS steady (name, setting)"""
"""Has these statements planned once for each connection, and in the one way that is good: by index, whatever the
tables held in that moment."""
