"""When a pool inserts its row, and when it takes the others for lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aqueue.settings.config import Config
from aqueue.store.postgres import schema
from aqueue.store.postgres.connection import Connection, close_now, connect
from aqueue.store.postgres.connection_pool import ConnectionPool
from aqueue.store.postgres.pool_tasks import PoolTasks

LEASE = 6.0
POOLS = "SELECT count(*) FROM aqueue.pool"
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"


class Pool:
    """A pool that has joined, whose heartbeats the test makes."""

    def __init__(self, url: str, folder: Path) -> None:
        folder.mkdir()
        self.connections = ConnectionPool(url, max_idle=4)
        self.rescues = 0
        self.tasks = PoolTasks(
            Config(url, directory=str(folder), lease=LEASE),
            frozenset(),
            self.connections,
            run="r",
            on_change=lambda job: None,
            rescue=self._rescue,
        )

    async def _rescue(self, connection: Connection) -> None:
        self.rescues += 1

    async def beat(self, connection: Connection) -> None:
        """One turn of the heartbeat."""
        heartbeat = self.tasks.heartbeat
        if await heartbeat._beat(connection):
            await heartbeat._look_around(connection)
        else:
            await heartbeat._start_over(connection)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Connection]:
    connection = await connect(database)
    await schema.prepare(connection)
    yield connection
    await close_now(connection)


@pytest.fixture
async def pool(connection: Connection, database: str, tmp_path: Path) -> AsyncIterator[Pool]:
    pool = Pool(database, tmp_path / "pool")
    await pool.tasks.heartbeat.join(connection)
    yield pool
    await pool.tasks.lease.close(holds_jobs=False)


async def test_no_heartbeat_inserts_the_row_of_a_pool_again_that_is_leaving(
    pool: Pool, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await pool.tasks.heartbeat.leave(connection)
    await pool.beat(connection)
    assert caplog.records == []
    assert await (await connection.execute(POOLS)).fetchone() == (0,)


async def test_a_pool_that_is_just_joining_again_when_it_is_to_leave_is_deleted_after_that(
    pool: Pool, connection: Connection, database: str
) -> None:
    other = await connect(database)
    await connection.execute("DELETE FROM aqueue.pool")
    await other.execute("BEGIN; INSERT INTO aqueue.pool VALUES ('r', '', '', '{}', now(), '1 s')")  # has it wait
    beat = asyncio.create_task(pool.beat(connection))
    async with asyncio.timeout(3):
        while await (await other.execute(WAITING)).fetchone() == (0,):
            await asyncio.sleep(0.01)
    async with pool.connections.acquire() as second:
        leaving = asyncio.create_task(pool.tasks.heartbeat.leave(second))
        await asyncio.wait([leaving], timeout=0.2)
        await other.execute("ROLLBACK")
        await asyncio.gather(beat, leaving)
    assert await (await other.execute(POOLS)).fetchone() == (0,)
    await pool.connections.close()
    await close_now(other)


@pytest.mark.parametrize(("step", "rescues"), [(LEASE, 0), (1.0, 1)], ids=["far", "little"])
async def test_a_pool_that_finds_the_clock_of_the_database_set_forward_takes_no_other_for_lost(
    pool: Pool, connection: Connection, step: float, rescues: int
) -> None:
    pool.tasks.clock._offset -= step  # so that its answers look as if it had been set
    await pool.beat(connection)
    assert pool.rescues == rescues
