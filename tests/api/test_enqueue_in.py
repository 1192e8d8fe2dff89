"""A job that is queued in an application's own transaction exists exactly if that commits."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row, scalar_row

import aqueue
from aqueue.jobs.job import State
from aqueue.settings.config import Config
from aqueue.store.open import prepare_database


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


async def test_a_relative_directory_is_seen_from_the_program(
    shared: Config, connection: "psycopg.AsyncConnection[dict[str, object]]"
) -> None:
    by_fields = await aqueue.enqueue_in(connection, "true", config=shared, cwd=Path("rel"))
    by_spec = await aqueue.enqueue_in(connection, aqueue.JobSpec(command="true", cwd="rel"), config=shared)
    assert by_fields.cwd == by_spec.cwd == f"{Path.cwd()}/rel"


async def jobs(config: Config) -> list[str]:
    async with aqueue.connect(config=config) as queue:
        return [job.id async for job in queue.jobs()]


async def test_without_a_block_the_job_begins_the_transaction_like_any_statement(
    shared: Config, connection: "psycopg.AsyncConnection[dict[str, object]]"
) -> None:
    await aqueue.enqueue_in(connection, "true", config=shared, id="a")
    await connection.execute("INSERT INTO orders VALUES (1)")
    assert await jobs(shared) == []
    await connection.rollback()
    assert await jobs(shared) == []
    await aqueue.enqueue_in(connection, "true", config=shared, id="a")
    with pytest.raises(aqueue.DuplicateJob):
        await aqueue.enqueue_in(connection, "true", config=shared, id="a")
    assert await jobs(shared) == []
    await connection.commit()
    assert await jobs(shared) == ["a"]


async def test_on_an_autocommit_connection_it_is_there_at_once_unless_a_block_is_open(
    shared: Config, connection: "psycopg.AsyncConnection[dict[str, object]]"
) -> None:
    await connection.set_autocommit(True)
    await aqueue.enqueue_in(connection, "true", config=shared, id="a")
    assert await jobs(shared) == ["a"]
    async with connection.transaction():
        await aqueue.enqueue_in(connection, "true", config=shared, id="b")
        assert await jobs(shared) == ["a"]
    assert await jobs(shared) == ["a", "b"]


async def test_in_a_pipeline_it_is_part_of_the_transaction_too(
    shared: Config, connection: "psycopg.AsyncConnection[dict[str, object]]"
) -> None:
    for end, left in ((connection.rollback, []), (connection.commit, ["a"])):
        async with connection.pipeline():
            await aqueue.enqueue_in(connection, "true", config=shared, id="a")
            assert await jobs(shared) == []
        await end()
        assert await jobs(shared) == left


async def test_it_matters_not_what_cursors_and_rows_the_application_has_and_they_stay(shared: Config) -> None:
    for place, cursors in enumerate((psycopg.AsyncRawCursor, psycopg.AsyncClientCursor)):
        async with await psycopg.AsyncConnection.connect(
            shared.store, row_factory=scalar_row, cursor_factory=cursors
        ) as connection:
            await aqueue.enqueue_in(connection, "echo '%s'", config=shared, id=f"raw{place}")
            assert (await (await connection.execute("SELECT 1, 2")).fetchall()) == [1]
            await aqueue.enqueue_in(connection, "true", config=shared)
            with pytest.raises(aqueue.DuplicateJob):
                await aqueue.enqueue_in(connection, "true", config=shared, id=f"raw{place}")
            assert (connection.row_factory, connection.cursor_factory) == (scalar_row, cursors)
    assert len(await jobs(shared)) == 4


async def test_a_new_queue_that_is_not_committed_yet_holds_nobody_up(
    shared: Config, connection: "psycopg.AsyncConnection[dict[str, object]]"
) -> None:
    await aqueue.enqueue_in(connection, "true", config=shared, id="a", queue="mails")
    async with asyncio.timeout(10), aqueue.Pool(config=shared) as pool:
        for queue in ("mails", "default"):
            job = await pool.enqueue("true", queue=queue)
            assert (await pool.wait(job.id)).state is State.COMPLETED
        await connection.commit()
        assert (await pool.wait("a")).state is State.COMPLETED
        await pool.enqueue("true", queue="mails", id="b")
        assert (await pool.wait("b")).state is State.COMPLETED


async def test_transactions_with_new_queues_in_opposite_order_do_not_lock_each_other_out(
    shared: Config, connection: "psycopg.AsyncConnection[dict[str, object]]"
) -> None:
    async with asyncio.timeout(10), await psycopg.AsyncConnection.connect(shared.store) as other:
        await aqueue.enqueue_in(connection, "true", config=shared, queue="mails")
        await aqueue.enqueue_in(other, "true", config=shared, queue="news")
        await aqueue.enqueue_in(connection, "true", config=shared, queue="news")
        await aqueue.enqueue_in(other, "true", config=shared, queue="mails")
        await connection.commit()
    async with aqueue.connect(config=shared) as queue:
        assert sorted([job.queue async for job in queue.jobs()]) == ["mails", "mails", "news", "news"]
