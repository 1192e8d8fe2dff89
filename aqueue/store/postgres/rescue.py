"""The rescue of jobs whose pool has fallen silent for longer than its lease.

Any pool does it for all others. Deleting the silent pool's row is what makes it the only one that does; a pool whose
row is gone claims nothing and stores nothing any more. So the row goes first, whatever is left: jobs that somebody
else has locked just then are in no pool, and are found as such at the next look.

While the database has just come back, everybody gets the length of a lease to be heard again.
"""

from datetime import UTC

import msgspec

from aqueue.jobs.job import Outcome
from aqueue.jobs.lifecycle import settled
from aqueue.store.pool_info import PoolInfo
from aqueue.store.postgres import notifications, rows, statements
from aqueue.store.postgres.connection import Connection

_SILENT = """
    DELETE FROM aqueue.pool WHERE run IN (
        SELECT run FROM aqueue.pool
        WHERE greatest(beat, pg_postmaster_start_time()) + lease < clock_timestamp() FOR UPDATE SKIP LOCKED)
    RETURNING info::text"""
_LEFT = f"""
    SELECT {rows.PLAIN}, cancel, clock_timestamp() FROM aqueue.job_active AS job
    WHERE state = 'processing' AND NOT EXISTS (SELECT FROM aqueue.pool WHERE run = job.pool)
    FOR UPDATE SKIP LOCKED"""


async def rescue(connection: Connection, max_interruptions: int) -> list[str]:
    """Queue again what silent pools left in `processing`; return what there is to say about it."""
    async with connection.transaction():
        silent = await (await connection.execute(_SILENT)).fetchall()
        left = await (await connection.execute(_LEFT)).fetchall()
        if left:
            now = left[0][-1].astimezone(UTC)
            back = []
            for row in left:
                *columns, cancel, _ = row
                job = rows.job_of(columns)
                why = f"lost: its pool on {job.history[-1].host} fell silent"
                lost = Outcome(error=why, interrupted=not cancel, cancelled=cancel)
                back.append(settled(job, lost, now=now, max_interruptions=max_interruptions))
            await connection.execute(statements.PUT, rows.columns(back, now))
            await notifications.send(
                connection, [*notifications.of_waiting([job for job in back if not job.state.final], now)]
            )
            await notifications.send(connection, notifications.of_ended([job.id for job in back if job.state.final]))
    names = [msgspec.json.decode(info, type=PoolInfo).name for (info,) in silent]
    if not names and not left:
        return []
    who = f"pool {', '.join(names)} fell silent" if names else "a pool is gone"
    return [f"{who}: {len(left)} of its jobs are queued again"]
