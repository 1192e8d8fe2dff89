"""The statements of a pool's traffic. Each takes and returns many jobs at once.

`FOR UPDATE SKIP LOCKED` lets any number of pools claim at the same time without waiting for each other. A result
counts only if its attempt still belongs to this pool: compare and set, on the job's number, the pool and the token.
"""

from aqueue.store.postgres import rows

READY = """pg_notify('aqueue', json_build_object(
        'type', 'Ready', 'queue', job.queue, 'rank', job.rank, 'due', extract(epoch FROM job.due))::text)"""
FREED = "pool = NULL, host = NULL, worker = NULL, token = NULL, started = NULL, cancel = false"

SETTLE = f"""
    WITH given AS (
        SELECT * FROM unnest(%(tokens)s::text[], {rows.UNNEST}) AS given (held_by, {", ".join(rows.COLUMNS)})
    ), stored AS (
        UPDATE aqueue.job AS job SET {rows.SET}, {FREED} FROM given
        WHERE job.seq = given.seq AND NOT job.ended AND job.state = 'processing'
            AND job.pool = %(run)s AND job.token = given.held_by
        RETURNING job.*
    )
    SELECT seq, CASE
        WHEN ready THEN {READY}
        WHEN ended AND awaited
            THEN pg_notify('aqueue', json_build_object('type', 'Ended', 'ids', json_build_array(id))::text)
        END
    FROM stored AS job"""
"""Store the results `rows.columns` of attempts `tokens`; returns the numbers of the jobs whose result counted."""

PUT = f"""
    UPDATE aqueue.job AS job SET {rows.SET}, {FREED}
    FROM unnest({rows.UNNEST}) AS given ({", ".join(rows.COLUMNS)}) WHERE job.seq = given.seq"""
"""Put `rows.columns` in the place of what the jobs were, which are locked."""

TAKE_BACK = f"""
    UPDATE aqueue.job_active AS job SET state = back.state, ready = true, begun = begun - 1, {FREED}
    FROM unnest(%(tokens)s::text[], %(seqs)s::bigint[], %(states)s::text[]) AS back (held_by, seq, state)
    WHERE job.seq = back.seq AND job.token = back.held_by AND job.state = 'processing' AND job.pool = %(run)s
    RETURNING job.seq, {READY}"""
"""Undo claims whose command was never started; returns the numbers of the jobs."""

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

CLAIM = f"""
    WITH pool AS MATERIALIZED (
        SELECT run, host FROM aqueue.pool WHERE run = %(run)s FOR KEY SHARE
    ), found AS (
        SELECT next.* FROM pool,
            unnest(%(queues)s::text[], %(ranks)s::int[], %(dues)s::timestamptz[]) AS served (queue, rank, due),
            LATERAL (
                SELECT seq, rank, due FROM aqueue.job_active AS job
                WHERE ready AND job.queue = served.queue AND (job.rank, job.due) >= (served.rank, served.due)
                ORDER BY rank, due, seq LIMIT %(count)s FOR UPDATE SKIP LOCKED
            ) AS next
        ORDER BY rank, due, seq LIMIT %(count)s
    ), placed AS (
        SELECT seq, row_number() OVER (ORDER BY rank, due, seq) AS place FROM found
    )
    UPDATE aqueue.job_active AS job SET state = 'processing', ready = false, begun = begun + 1, pool = pool.run,
        host = pool.host, worker = slot.number, started = clock_timestamp(),
        token = pool.run || '.' || slot.number || '.' || job.seq || '-' || begun + 1
    FROM placed JOIN unnest(%(slots)s::int[]) WITH ORDINALITY AS slot (number, place) USING (place), pool
    WHERE job.seq = placed.seq
    RETURNING {rows.PLAIN.replace("seq", "job.seq").replace("host", "job.host")}"""
"""Claim the next jobs of the served queues, from a bookmark on in each, for free worker slots. Nothing is claimed by a
pool that another one has declared lost."""

PASSED_OVER = """
    SELECT EXISTS (
        SELECT FROM unnest(%(queues)s::text[], %(ranks)s::int[], %(dues)s::timestamptz[]) AS served (queue, rank, due),
            LATERAL (
                SELECT FROM aqueue.job_active AS job
                WHERE ready AND job.queue = served.queue AND (job.rank, job.due) >= (served.rank, served.due) LIMIT 1
            ) AS next)"""
"""Whether there are jobs that a claim with these parameters could have taken, had others not locked them."""
