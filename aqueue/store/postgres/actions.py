"""What people, and the time that passes, do to jobs that are there, in the transaction that is open."""

from collections.abc import Callable, Sequence
from datetime import datetime

from aqueue.errors import InvalidRequest
from aqueue.jobs.job import Job, State
from aqueue.store.postgres import insert, lookup, notifications, rows, statements
from aqueue.store.postgres.connection import Connection

_ASK_TO_CANCEL = "UPDATE aqueue.job_active SET cancel = true WHERE seq = %s"
_STOP = "UPDATE aqueue.pool SET stop = %s WHERE run = ANY(%s)"
_EXPIRE = f"""
    DELETE FROM aqueue.job_ended WHERE seq IN (
        SELECT seq FROM aqueue.job_ended WHERE state IN ('completed', 'cancelled') AND changed < %s
        ORDER BY changed LIMIT %s FOR UPDATE SKIP LOCKED)
    RETURNING {rows.PLAIN}"""
_OLDEST = "SELECT min(changed) FROM aqueue.job_ended WHERE state IN ('completed', 'cancelled')"


async def steer(connection: Connection, name: str, rule: Callable[..., Job], *, running: bool) -> Job:
    """Change a job by one of the rules of `aqueue.jobs.lifecycle`; with `running`, the pool that runs it is asked to cancel
    it, and the job returned as it is. Raises `UnknownJob`, `InvalidRequest`."""
    before, now = await lookup.one(connection, name, lock=True), await lookup.now(connection)
    if running and before.state is State.PROCESSING:
        await connection.execute(_ASK_TO_CANCEL, (before.seq,))
        await notifications.send(connection, [notifications.Told()])
        return before
    after = rule(before, now=now)
    await connection.execute(statements.PUT, rows.columns([after], now))
    await notifications.send(
        connection, notifications.of_ended([name]) if after.state.final else notifications.of_waiting([after], now)
    )
    return after


async def remove(connection: Connection, names: list[str]) -> list[Job]:
    """Forget jobs. Raises `UnknownJob`, `InvalidRequest`."""
    gone: dict[str, Job] = {}
    for lock in (False, True):  # a lock that is taken in vain would hide a job from claims for a while
        gone = await lookup.by_id(connection, names, lock=lock)
        for name in names:
            if name not in gone:
                raise await lookup.unknown(connection, name)
            if gone[name].state is State.PROCESSING:
                raise InvalidRequest(f"job {name} is processing: cancel it before you remove it")
    await connection.execute(insert.REMEMBER, (sorted(names),))  # also those that were made: nobody shall choose them
    await connection.execute("DELETE FROM aqueue.job WHERE seq = ANY(%s)", ([job.seq for job in gone.values()],))
    await notifications.send(connection, notifications.of_ended(names))
    return [gone[name] for name in names]


async def expire(connection: Connection, before: datetime, most: int) -> tuple[list[Job], datetime | None]:
    """Forget so many jobs that ended before a time, the oldest first; return them, and when the oldest that is left
    ended."""
    gone = await (await connection.execute(_EXPIRE, (before, most))).fetchall()
    oldest = await (await connection.execute(_OLDEST)).fetchone()
    return [rows.job_of(row) for row in gone], oldest[0] if oldest else None


async def stop(connection: Connection, runs: Sequence[str], how: str) -> None:
    """Tell pools to stop; `how` is `stop`, `now` or `leave`."""
    await connection.execute(_STOP, (how, list(runs)))
    await notifications.send(connection, [notifications.Told()])
