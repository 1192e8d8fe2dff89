"""What people, and the time that passes, do to jobs that exist, in the transaction that is open."""

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from aqueue.jobs.job import Job, State
from aqueue.jobs.lifecycle import check_removable
from aqueue.store.postgres import insert, lookup, notifications, statements
from aqueue.store.postgres.connection import Connection
from aqueue.store.postgres.rows import JobRow, write_parameters
from aqueue.store.postgres.statement import Statement, columns, execute

_ASK_TO_CANCEL = "UPDATE aqueue.job_active SET cancel = true WHERE seq = %s"
_ASK_TO_STOP = "UPDATE aqueue.pool SET stop = %s WHERE run = ANY(%s)"
_REMOVE = "DELETE FROM aqueue.job WHERE seq = ANY(%s)"
_EXPIRE = Statement(
    f"""
    DELETE FROM aqueue.job_ended WHERE seq IN (
        SELECT seq FROM aqueue.job_ended WHERE state IN ('completed', 'cancelled') AND changed < %s
        ORDER BY changed LIMIT %s FOR UPDATE SKIP LOCKED)
    RETURNING {columns(JobRow)}""",
    JobRow,
)


class _Oldest(msgspec.Struct):
    changed: datetime | None


_OLDEST = Statement(
    "SELECT min(changed) AS changed FROM aqueue.job_ended WHERE state IN ('completed', 'cancelled')", _Oldest
)


async def change(connection: Connection, job_id: str, rule: Callable[..., Job], *, running: bool) -> Job:
    """Change a job by one of the rules of `aqueue.jobs.lifecycle`. Raises `UnknownJob`, `InvalidRequest`.

    With `running`, the pool that runs the job is asked to cancel it, and the job returned as it is.
    """
    before, now = await lookup.get(connection, job_id, lock=True), await lookup.now(connection)
    if running and before.state is State.PROCESSING:
        await execute(connection, _ASK_TO_CANCEL, (before.seq,))
        await notifications.send(connection, [notifications.PoolAsked()])
        return before
    after = rule(before, now=now)
    await execute(connection, statements.UPDATE, write_parameters([after], now))
    await notifications.send(connection, notifications.of_changed([after], now))
    return after


async def remove(connection: Connection, job_ids: list[str]) -> list[Job]:
    """Remove jobs. Raises `UnknownJob`, `InvalidRequest`."""
    found: dict[str, Job] = {}
    for lock in (False, True):  # a lock on a job that cannot be removed would hide it from claims for a while
        found = await lookup.get_by_id(connection, job_ids, lock=lock)
        for job_id in job_ids:
            if job_id not in found:
                raise await lookup.unknown_job(connection, job_id)
            check_removable(found[job_id])
    await insert.RESERVE_IDS.fetch(connection, (sorted(job_ids),))  # also generated ones: nobody shall choose them
    await execute(connection, _REMOVE, ([job.seq for job in found.values()],))
    await notifications.send(connection, notifications.of_ended(job_ids))
    return [found[job_id] for job_id in job_ids]


async def expire(connection: Connection, before: datetime, limit: int) -> tuple[list[Job], datetime | None]:
    """Remove up to `limit` jobs that ended before a time, the oldest first; return them, and when the oldest that is
    left ended."""
    expired = await _EXPIRE.fetch(connection, (before, limit))
    oldest = await _OLDEST.fetch_one(connection)
    return [row.job() for row in expired], oldest.changed if oldest else None


async def stop_pools(connection: Connection, runs: Sequence[str], how: str) -> None:
    """Ask pools to stop; `how` is `stop`, `now` or `leave`."""
    await execute(connection, _ASK_TO_STOP, (how, list(runs)))
    await notifications.send(connection, [notifications.PoolAsked()])
