"""Whether a queue in PostgreSQL is intact: silent pools, jobs that belong to no pool, rows that cannot be read."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
import psycopg

from aqueue.errors import UNREADABLE
from aqueue.settings.config import Config
from aqueue.store.pool_info import PoolInfo
from aqueue.store.postgres import schema
from aqueue.store.postgres.connection import Connection, close_now, connect, database_error
from aqueue.store.postgres.rescue import rescue
from aqueue.store.postgres.rows import JobRow
from aqueue.store.postgres.statement import Statement, columns

T = TypeVar("T")


class _SilentPool(msgspec.Struct):
    info: str
    beat: datetime


class _CheckedRow(JobRow, frozen=True, gc=False):
    id: str
    queue: str


_SILENT_POOLS = Statement(
    f"SELECT {columns(_SilentPool)} FROM aqueue.pool WHERE beat + lease < clock_timestamp() ORDER BY beat", _SilentPool
)
_COUNT_LOST = Statement(
    """
    SELECT count(*) FROM aqueue.job_active AS job
    WHERE state = 'processing' AND NOT EXISTS (SELECT FROM aqueue.pool WHERE run = job.pool)""",
    int,
)
_PAGE = Statement(f"SELECT {columns(_CheckedRow)} FROM aqueue.job WHERE seq > %s ORDER BY seq LIMIT 1000", _CheckedRow)


async def prepare(config: Config) -> tuple[int, int]:
    """Create the tables, or migrate them to this version; return the version they had, 0 for none, and have now.

    Raises `StoreError`.
    """
    return await _connected(config, schema.prepare), schema.VERSION


async def check(config: Config, *, repair: bool) -> tuple[list[str], list[str], int]:
    """What is wrong, what was done about it if `repair`, and how many jobs there are. Raises `StoreError`."""

    async def run(connection: Connection) -> tuple[list[str], list[str], int]:
        await schema.check(connection)
        problems = await _pool_problems(connection)
        repairs = await rescue(connection, config.max_interruptions) if repair and problems else []
        count, last = 0, -1
        while page := await _PAGE.fetch(connection, (last,)):
            problems += [f"job number {row.seq} ({row.id}): {wrong}" for row in page if (wrong := _row_problem(row))]
            count += len(page)
            last = page[-1].seq
        return problems, repairs, count

    return await _connected(config, run)


async def _pool_problems(connection: Connection) -> list[str]:
    problems = []
    for pool in await _SILENT_POOLS.fetch(connection):
        name = msgspec.json.decode(pool.info, type=PoolInfo).name
        problems.append(f"pool {name} has been silent since {pool.beat.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z")
    lost = await _COUNT_LOST.fetch_one(connection)
    if lost:
        problems.append(f"{lost} jobs are processing in no pool")
    return problems


def _row_problem(row: _CheckedRow) -> str | None:
    try:
        job = row.job()
    except UNREADABLE as error:
        return f"its record cannot be read: {error}"
    if (job.seq, job.state.value, job.id, job.queue) != (row.seq, row.state, row.id, row.queue):
        return "its record and its columns say different things"
    return None


async def _connected(config: Config, use: Callable[[Connection], Awaitable[T]]) -> T:
    connection = await connect(config.store)
    try:
        return await use(connection)
    except psycopg.Error as error:
        raise database_error(config.store, error) from error
    finally:
        await close_now(connection)
