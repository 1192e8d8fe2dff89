"""Single jobs: read, locked for a change, or marked as awaited."""

from datetime import UTC, datetime

from aqueue.errors import UnknownJob, printable
from aqueue.jobs.job import Job
from aqueue.store.ids import REMOVAL_NOTE
from aqueue.store.postgres import statements
from aqueue.store.postgres.connection import Connection
from aqueue.store.postgres.rows import JobWithOutputRow
from aqueue.store.postgres.statement import Statement, columns, execute

_BY_ID = f"SELECT {columns(JobWithOutputRow)} FROM aqueue.job WHERE id = ANY(%s) ORDER BY seq"
_GET = Statement(_BY_ID, JobWithOutputRow)
_LOCK = Statement(f"{_BY_ID} FOR UPDATE", JobWithOutputRow)
_MARK_AWAITED = f"""
    UPDATE aqueue.job_active AS job SET awaited = true WHERE id = %s AND NOT awaited
    RETURNING CASE WHEN ready THEN {statements.NOTIFY_READY} END"""
"""A claim skips a row that is locked meanwhile: so the job is announced again."""
_WAS_USED = Statement("SELECT true FROM aqueue.chosen_id WHERE id = %s", bool)


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


_NOW = Statement("SELECT clock_timestamp()", _utc)


async def get_by_id(connection: Connection, job_ids: list[str], *, lock: bool = False) -> dict[str, Job]:
    """Those of the jobs that exist, with their output, by id; with `lock` nobody else changes them meanwhile."""
    found = await (_LOCK if lock else _GET).fetch(connection, (job_ids,))
    return {job.id: job for job in [row.job() for row in found]}


async def get(connection: Connection, job_id: str, *, lock: bool = False) -> Job:
    """The job with its output. Raises `UnknownJob`."""
    found = await get_by_id(connection, [job_id], lock=lock)
    if job_id not in found:
        raise await unknown_job(connection, job_id)
    return found[job_id]


async def await_end(connection: Connection, job_id: str) -> Job:
    """Like `get`; the end of the job will be announced. Raises `UnknownJob`."""
    await execute(connection, _MARK_AWAITED, (job_id,))
    return await get(connection, job_id)


async def unknown_job(connection: Connection, job_id: str) -> UnknownJob:
    """The error that there is no such job."""
    removed = await _WAS_USED.fetch_one(connection, (job_id,))
    return UnknownJob(f"no job has the id {printable(job_id)!r}{REMOVAL_NOTE if removed else ''}")


async def now(connection: Connection) -> datetime:
    """The database's time."""
    found = await _NOW.fetch_one(connection)
    assert found is not None
    return found
