"""Single jobs: read, locked for a change, or marked by who waits for them."""

from datetime import UTC, datetime

from aqueue.errors import UnknownJob, printable
from aqueue.jobs.job import Job
from aqueue.store.postgres import rows, statements
from aqueue.store.postgres.connection import Connection

_AWAITED = f"""
    UPDATE aqueue.job_active AS job SET awaited = true WHERE id = %s AND NOT awaited
    RETURNING CASE WHEN ready THEN {statements.READY} END"""
"""A claim that comes by meanwhile passes a row that is locked: so it is told to look again."""


async def by_id(connection: Connection, names: list[str], *, lock: bool = False) -> dict[str, Job]:
    """Those of the jobs that there are, with their output; with `lock` nobody else changes them meanwhile."""
    statement = f"SELECT {rows.FULL} FROM aqueue.job WHERE id = ANY(%s) ORDER BY seq"
    found = await connection.execute(statement + " FOR UPDATE" if lock else statement, (names,))
    jobs = [rows.job_of(row, output=True) for row in await found.fetchall()]
    return {job.id: job for job in jobs}


async def one(connection: Connection, name: str, *, lock: bool = False) -> Job:
    """The job with its output. Raises `UnknownJob`."""
    found = await by_id(connection, [name], lock=lock)
    if name not in found:
        raise await unknown(connection, name)
    return found[name]


async def awaited(connection: Connection, name: str) -> Job:
    """Like `one`; when it ends, that is announced. Raises `UnknownJob`."""
    await connection.execute(_AWAITED, (name,))
    return await one(connection, name)


async def unknown(connection: Connection, name: str) -> UnknownJob:
    """The complaint that there is no such job."""
    used = await connection.execute("SELECT FROM aqueue.chosen_id WHERE id = %s", (name,))
    gone = " (it was removed; ids are never used again)" if await used.fetchone() is not None else ""
    return UnknownJob(f"no job has the id {printable(name)!r}{gone}")


async def now(connection: Connection) -> datetime:
    """The database's time."""
    row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment.astimezone(UTC)
