"""The rescue of jobs whose pool has been silent for longer than its lease.

Any pool rescues those of all others. Deleting the silent pool's row is what makes it the only one that does; a pool
whose row is gone claims nothing and stores nothing any more. So the row goes first, whatever is left: jobs that another
transaction has locked just then belong to no pool, and are found as such at the next rescue.

When the database has just come back, every pool gets the length of its lease to send a heartbeat.
"""

import msgspec

from aqueue.jobs.job import Outcome
from aqueue.jobs.lifecycle import settled
from aqueue.store.pool_info import PoolInfo
from aqueue.store.postgres import lookup, notifications, statements
from aqueue.store.postgres.connection import Connection
from aqueue.store.postgres.rows import JobRow, write_parameters
from aqueue.store.postgres.statement import Statement, columns, execute


def _pool_info(info: str) -> PoolInfo:
    return msgspec.json.decode(info, type=PoolInfo)


class _LostRow(JobRow, frozen=True, gc=False):
    cancel: bool


_REMOVE_SILENT = Statement(
    """
    DELETE FROM aqueue.pool WHERE run IN (
        SELECT run FROM aqueue.pool
        WHERE greatest(beat, pg_postmaster_start_time()) + lease < clock_timestamp() FOR UPDATE SKIP LOCKED)
    RETURNING info::text""",
    _pool_info,
)
_LOST = Statement(
    f"""
    SELECT {columns(_LostRow)} FROM aqueue.job_active AS job
    WHERE state = 'processing' AND NOT EXISTS (SELECT FROM aqueue.pool WHERE run = job.pool)
    FOR UPDATE SKIP LOCKED""",
    _LostRow,
)


async def rescue(connection: Connection, max_interruptions: int) -> list[str]:
    """Put the jobs that silent pools left in `processing` back into their queues; return lines that report it."""
    async with connection.transaction():
        silent = await _REMOVE_SILENT.fetch(connection)
        lost = await _LOST.fetch(connection)
        if lost:
            now = await lookup.now(connection)
            rescued = []
            for row in lost:
                job = row.job()
                reason = f"lost: its pool on {job.history[-1].host} fell silent"
                outcome = Outcome(error=reason, interrupted=not row.cancel, cancelled=row.cancel)
                rescued.append(settled(job, outcome, now=now, max_interruptions=max_interruptions))
            await execute(connection, statements.UPDATE, write_parameters(rescued, now))
            await notifications.send(connection, notifications.of_changed(rescued, now))
    if not silent and not lost:
        return []
    who = f"pool {', '.join(pool.name for pool in silent)} fell silent" if silent else "a pool is gone"
    return [f"{who}: {len(lost)} of its jobs are queued again"]
