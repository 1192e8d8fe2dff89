"""New jobs, in whatever transaction is open: the store's own, or an application's."""

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.structs import replace
from psycopg.rows import tuple_row

from aqueue.errors import DuplicateJob
from aqueue.jobs import lifecycle
from aqueue.jobs.job import Job
from aqueue.jobs.spec import NewJob, first_duplicate
from aqueue.store.ids import made_id
from aqueue.store.postgres import notices, rows
from aqueue.store.postgres.connecting import Connection

_SLICE = 1000
"""Jobs in one statement."""
REMEMBER = "INSERT INTO aqueue.chosen_id SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING RETURNING id"
"""Keeps ids from being chosen ever again; returns those that were not kept from it before."""
_NEW_QUEUES = """
    INSERT INTO aqueue.queue SELECT name FROM unnest(%s::text[]) AS wanted (name)
    WHERE NOT EXISTS (SELECT FROM aqueue.queue AS known WHERE known.name = wanted.name)"""
"""A queue that another open transaction adds too stands there twice, which harms nobody; waiting for its end would."""


async def add(
    connection: Connection, specs: Sequence[NewJob], *, if_absent: bool = False
) -> tuple[list[Job], dict[str, Job]]:
    """Insert new jobs, with the transaction that is open; return them, and those that exist where that is fine.

    Raises `DuplicateJob`.
    """
    there = await reserve(connection, [spec.id for spec in specs if spec.id is not None], if_absent=if_absent)
    specs = [spec for spec in specs if spec.id not in there]
    if not specs:
        return [], there
    seqs, now = await numbers(connection, len(specs))
    made = await made_ids(connection, [seq for seq, spec in zip(seqs, specs, strict=True) if spec.id is None])
    jobs = [
        lifecycle.new_job(spec, job_id=spec.id or made[seq], seq=seq, now=now)
        for seq, spec in zip(seqs, specs, strict=True)
    ]
    await insert(connection, jobs, now)
    return jobs, there


async def adopt(connection: Connection, records: Sequence[Job]) -> list[Job]:
    """Insert jobs that come from another store as they are, but with new numbers. Raises `DuplicateJob`."""
    await reserve(connection, [record.id for record in records])
    seqs, now = await numbers(connection, len(records))
    jobs = [replace(record, seq=seq) for seq, record in zip(seqs, records, strict=True)]
    await insert(connection, jobs, now)
    return jobs


async def reserve(connection: Connection, names: list[str], *, if_absent: bool = False) -> dict[str, Job]:
    """Take ids that somebody chose; return the jobs that have one already, where that is fine.

    Raises `DuplicateJob` if an id is, or ever was, in use.
    """
    twice = first_duplicate(names)
    if twice is not None:
        raise DuplicateJob(f"id {twice} occurs twice in this batch")
    found: dict[str, Job] = {}
    async with connection.cursor(row_factory=tuple_row) as cursor:
        for start in range(0, len(names), _SLICE):
            some = names[start : start + _SLICE]
            await cursor.execute(REMEMBER, (some,))
            new = {name for (name,) in await cursor.fetchall()}
            await cursor.execute(f"SELECT {rows.FULL} FROM aqueue.job WHERE id = ANY(%s)", (some,))
            there = {job.id: job for job in [rows.job_of(row, output=True) for row in await cursor.fetchall()]}
            for name in some:
                if name in there and not if_absent:
                    raise DuplicateJob(f"id {name} exists already")
                if name not in new and name not in there:
                    raise DuplicateJob(f"id {name} exists already (it was removed; ids are never used again)")
            found.update(there)
    return found


async def numbers(connection: Connection, count: int) -> tuple[list[int], datetime]:
    """So many new sequence numbers, and the database's time."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT nextval('aqueue.job_seq'), clock_timestamp() FROM generate_series(1, %s)", (count,)
        )
        found = await cursor.fetchall()
    return [seq for seq, _ in found], found[0][1].astimezone(UTC)


async def made_ids(connection: Connection, seqs: Sequence[int]) -> dict[int, str]:
    """An id for each of these numbers; it gives way to one that somebody chose."""
    made = {seq: made_id(seq) for seq in seqs}
    open_ = list(made)
    async with connection.cursor(row_factory=tuple_row) as cursor:
        while open_:
            await cursor.execute("SELECT id FROM aqueue.chosen_id WHERE id = ANY(%s)", ([made[seq] for seq in open_],))
            taken = {name for (name,) in await cursor.fetchall()}
            open_ = [seq for seq in open_ if made[seq] in taken]
            made.update({seq: made[seq] + "x" for seq in open_})
    return made


async def insert(connection: Connection, jobs: Sequence[Job], now: datetime) -> None:
    """Insert jobs, and tell those who wait for some."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        queues = sorted({job.queue for job in jobs})
        await cursor.execute(_NEW_QUEUES, (queues,))
        for start in range(0, len(jobs), _SLICE):
            await cursor.execute(rows.INSERT, rows.columns(jobs[start : start + _SLICE], now))
    await notices.send(connection, notices.of_waiting([job for job in jobs if not job.state.final], now))
