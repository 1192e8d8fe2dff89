"""A job that is queued in an application's own transaction exists exactly if that commits."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

import aqueue
from aqueue.config import Config
from aqueue.job import State
from aqueue.store import prepare_database


@pytest.fixture
async def shared(database: str, tmp_path: Path) -> Config:
    config = Config(database, directory=str(tmp_path / "files"), lease=8)
    await prepare_database(config)
    return config


@pytest.fixture
async def connection(shared: Config) -> AsyncIterator["psycopg.AsyncConnection[dict[str, object]]"]:
    """An application's connection, which has a row factory of its own and a table."""
    async with await psycopg.AsyncConnection.connect(shared.store, row_factory=dict_row) as connection:
        await connection.execute("CREATE TABLE orders (id int)")
        await connection.commit()
        yield connection


async def test_it_runs_once_the_transaction_has_committed(
    shared: Config, connection: "psycopg.AsyncConnection[dict[str, object]]"
) -> None:
    async with aqueue.Pool(config=shared) as pool:
        async with connection.transaction():
            await connection.execute("INSERT INTO orders VALUES (1)")
            job = await aqueue.enqueue_in(connection, "echo paid", config=shared, id="order-1", timeout=5)
            with pytest.raises(aqueue.UnknownJob):
                await pool.get("order-1")
        assert job.state is State.PENDING
        done = await asyncio.wait_for(pool.wait("order-1"), 10)
        assert (done.state, done.stdout, done.timeout) == (State.COMPLETED, "paid\n", 5)


async def test_what_is_rolled_back_never_was(
    shared: Config, connection: "psycopg.AsyncConnection[dict[str, object]]"
) -> None:
    async with connection.transaction():
        await aqueue.enqueue_in(connection, "true", config=shared, id="a")
        raise psycopg.Rollback
    async with aqueue.connect(config=shared) as queue:
        assert [job async for job in queue.jobs()] == []
    async with connection.transaction():
        await aqueue.enqueue_in(connection, "true", config=shared, id="a")


async def test_a_refused_job_leaves_the_rest_of_the_transaction(
    shared: Config, connection: "psycopg.AsyncConnection[dict[str, object]]"
) -> None:
    async with connection.transaction():
        await aqueue.enqueue_in(connection, "true", config=shared, id="a")
    async with connection.transaction():
        await connection.execute("INSERT INTO orders VALUES (2)")
        with pytest.raises(aqueue.DuplicateJob, match="id a exists already"):
            await aqueue.enqueue_in(connection, "false", config=shared, id="a")
        with pytest.raises(aqueue.InvalidJob, match="command is empty"):
            await aqueue.enqueue_in(connection, " ", config=shared)
    orders = await (await connection.execute("SELECT id FROM orders")).fetchall()
    assert orders == [{"id": 2}]
    async with aqueue.connect(config=shared) as queue:
        assert [(job.id, job.command) async for job in queue.jobs()] == [("a", "true")]
