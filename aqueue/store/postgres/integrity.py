"""Whether a queue in PostgreSQL is whole: silent pools, jobs that nobody has, rows that cannot be read."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC
from typing import Any, TypeVar

import msgspec
import psycopg

from aqueue.errors import UNREADABLE
from aqueue.settings.config import Config
from aqueue.store.pool_info import PoolInfo
from aqueue.store.postgres import rows, schema
from aqueue.store.postgres.connection import Connection, connect, failure, give_up
from aqueue.store.postgres.connection_pool import ConnectionPool
from aqueue.store.postgres.rescue import rescue

T = TypeVar("T")
_SILENT = "SELECT info::text, beat FROM aqueue.pool WHERE beat + lease < clock_timestamp() ORDER BY beat"
_NOBODYS = """
    SELECT count(*) FROM aqueue.job_active AS job
    WHERE state = 'processing' AND NOT EXISTS (SELECT FROM aqueue.pool WHERE run = job.pool)"""
_PAGE = f"SELECT {rows.PLAIN}, id, queue FROM aqueue.job WHERE seq > %s ORDER BY seq LIMIT 1000"


async def prepare(config: Config) -> tuple[int, int]:
    """Make the tables, or bring them to this version; return which they had, 0 for none, and have now."""
    return await _with_connection(config, schema.prepare), schema.VERSION


async def check_up(config: Config, *, repair: bool) -> tuple[list[str], list[str], int]:
    """What is wrong, what was done about it if `repair`, and how many jobs there are. Raises `StoreError`."""

    async def look(connection: Connection) -> tuple[list[str], list[str], int]:
        await schema.check(connection)
        problems, count = [problem async for problem in _silence(connection)], 0
        done = await rescue(connection, config.max_interruptions) if repair and problems else []
        last = -1
        while found := await (await connection.execute(_PAGE, (last,))).fetchall():
            problems += [f"job number {row[0]} ({row[-2]}): {wrong}" for row in found if (wrong := _wrong(row))]
            count += len(found)
            last = found[-1][0]
        return problems, done, count

    return await _with_connection(config, look)


async def _silence(connection: Connection) -> AsyncIterator[str]:
    for info, beat in await (await connection.execute(_SILENT)).fetchall():
        name = msgspec.json.decode(info, type=PoolInfo).name
        yield f"pool {name} has been silent since {beat.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    nobodys = await (await connection.execute(_NOBODYS)).fetchone()
    if nobodys and nobodys[0]:
        yield f"{nobodys[0]} jobs are processing in no pool"


def _wrong(row: Any) -> str | None:
    """What is wrong with a row."""
    try:
        job = rows.job_of(row[:-2])
    except UNREADABLE as error:
        return f"its record cannot be read: {error}"
    if (job.seq, job.state.value, job.id, job.queue) != (row[0], row[1], row[-2], row[-1]):
        return "its record and its columns say different things"
    return None


async def _with_connection(config: Config, use: Callable[[Connection], Awaitable[T]]) -> T:
    links = ConnectionPool(config.store, many=False)
    connection = await connect(links.store)
    try:
        return await use(connection)
    except psycopg.Error as error:
        raise failure(links.store, error) from error
    finally:
        await give_up(connection)
