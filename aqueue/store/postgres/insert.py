"""New jobs, in the transaction that is open: the store's own, or an application's."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace
from psycopg import AsyncCursor
from psycopg.pq import TransactionStatus

from aqueue.errors import DuplicateJob
from aqueue.jobs import lifecycle
from aqueue.jobs.job import Job
from aqueue.jobs.spec import NewJob
from aqueue.store.ids import REMOVAL_NOTE, check_distinct, made_id
from aqueue.store.postgres import lookup, notifications, rows
from aqueue.store.postgres.connection import Connection
from aqueue.store.postgres.statement import Statement, execute

_SLICE = 1000
"""Jobs in one statement."""
RESERVE_IDS = Statement(
    "INSERT INTO aqueue.chosen_id SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING RETURNING id", str
)
"""Keep ids from ever being chosen again; returns those that were not reserved before."""
_RESERVED_AMONG = Statement("SELECT id FROM aqueue.chosen_id WHERE id = ANY(%s)", str)
_ADD_QUEUES = """
    INSERT INTO aqueue.queue SELECT name FROM unnest(%s::text[]) AS wanted (name)
    WHERE NOT EXISTS (SELECT FROM aqueue.queue AS known WHERE known.name = wanted.name)"""
"""A queue that another open transaction adds too is then in the table twice, which is harmless; waiting is not."""


class _Number(msgspec.Struct):
    seq: int
    now: datetime


_NEXT_NUMBERS = Statement(
    "SELECT nextval('aqueue.job_seq') AS seq, clock_timestamp() AS now FROM generate_series(1, %s)", _Number
)


async def add_jobs(
    connection: Connection, specs: Sequence[NewJob], *, if_absent: bool = False
) -> tuple[list[Job], dict[str, Job]]:
    """Insert new jobs; return them, and by id those that exist already, with `if_absent`.

    Raises `DuplicateJob`.
    """
    existing = await _reserve(connection, [spec.id for spec in specs if spec.id is not None], if_absent=if_absent)
    specs = [spec for spec in specs if spec.id not in existing]
    if not specs:
        return [], existing
    seqs, now = await _next_numbers(connection, len(specs))
    numbered = list(zip(seqs, specs, strict=True))
    generated = await _generate_ids(connection, [seq for seq, spec in numbered if spec.id is None])
    jobs = [lifecycle.new_job(spec, job_id=spec.id or generated[seq], seq=seq, now=now) for seq, spec in numbered]
    await _insert(connection, jobs, now)
    return jobs, existing


async def import_jobs(connection: Connection, jobs: Sequence[Job]) -> list[Job]:
    """Insert jobs from another store as they are, but with new numbers. Raises `DuplicateJob`."""
    await _reserve(connection, [job.id for job in jobs])
    seqs, now = await _next_numbers(connection, len(jobs))
    imported = [replace(job, seq=seq) for seq, job in zip(seqs, jobs, strict=True)]
    await _insert(connection, imported, now)
    return imported


async def begin_transaction(connection: Connection) -> None:
    """Begin the transaction that an application's connection begins with its first statement, unless one is open.

    Otherwise `connection.transaction()` would not be a savepoint within it, but a transaction that commits by itself.
    """
    if not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        await AsyncCursor(connection).execute("SELECT 1")


async def _reserve(connection: Connection, job_ids: list[str], *, if_absent: bool = False) -> dict[str, Job]:
    """Reserve ids that somebody chose; with `if_absent`, return the jobs that have one already.

    Raises `DuplicateJob` if an id is, or ever was, in use.
    """
    check_distinct(job_ids)
    found: dict[str, Job] = {}
    for start in range(0, len(job_ids), _SLICE):
        some = job_ids[start : start + _SLICE]
        reserved = set(await RESERVE_IDS.fetch(connection, (some,)))
        existing = await lookup.get_by_id(connection, some)
        for job_id in some:
            if job_id in existing and not if_absent:
                raise DuplicateJob(f"id {job_id} exists already")
            if job_id not in reserved and job_id not in existing:
                raise DuplicateJob(f"id {job_id} exists already{REMOVAL_NOTE}")
        found.update(existing)
    return found


async def _next_numbers(connection: Connection, count: int) -> tuple[list[int], datetime]:
    """So many new sequence numbers, and the database's time."""
    numbers = await _NEXT_NUMBERS.fetch(connection, (count,))
    return [number.seq for number in numbers], numbers[0].now.astimezone(UTC)


async def _generate_ids(connection: Connection, seqs: Sequence[int]) -> dict[int, str]:
    """An id for each of these numbers, by number; none that somebody chose."""
    generated = {seq: made_id(seq) for seq in seqs}
    unchecked = list(generated)
    while unchecked:
        candidates = [generated[seq] for seq in unchecked]
        taken = set(await _RESERVED_AMONG.fetch(connection, (candidates,)))
        unchecked = [seq for seq in unchecked if generated[seq] in taken]
        generated.update({seq: generated[seq] + "x" for seq in unchecked})
    return generated


async def _insert(connection: Connection, jobs: Sequence[Job], now: datetime) -> None:
    """Insert jobs, and announce those that wait."""
    await execute(connection, _ADD_QUEUES, (sorted({job.queue for job in jobs}),))
    for start in range(0, len(jobs), _SLICE):
        await execute(connection, rows.INSERT, rows.write_parameters(jobs[start : start + _SLICE], now))
    await notifications.send(connection, notifications.of_waiting([job for job in jobs if not job.state.final], now))
