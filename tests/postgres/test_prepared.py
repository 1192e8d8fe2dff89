"""Many statements on one connection, until that is lost."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from aqueue.store.postgres.connection import close_now, connect
from aqueue.store.postgres.prepared import PreparedConnection
from aqueue.store.postgres.statement import Statement
from tests.postgres.proxy import Proxy


def rows_of(text: str) -> Statement[tuple[object, ...]]:
    return Statement(text, lambda *values: values)


ECHO = rows_of("SELECT %(text)s::text, %(number)s::int, %(text)s::text")
SIZE = rows_of("SELECT length(%(text)s::text)")


@pytest.fixture
async def connection(proxy: Proxy) -> AsyncIterator[psycopg.AsyncConnection]:
    connection = await connect(proxy.url)
    yield connection
    await close_now(connection)


async def test_it_executes_one_statement_after_the_other(connection: psycopg.AsyncConnection) -> None:
    with PreparedConnection.open(connection) as prepared:
        for number in range(3):
            assert await prepared.execute(ECHO, {"text": "ä%s'\\", "number": number}) == [("ä%s'\\", number, "ä%s'\\")]
        assert await prepared.execute(rows_of("SELECT generate_series(1, 3)")) == [(1,), (2,), (3,)]
        assert await prepared.execute(rows_of("SELECT 1 WHERE false")) == []
        assert await prepared.execute(rows_of("SET jit = off")) == []
    assert await (await connection.execute("SELECT 4")).fetchone() == (4,), "it is an ordinary connection again"


async def test_a_refused_statement_says_why_and_the_next_is_executed(connection: psycopg.AsyncConnection) -> None:
    with PreparedConnection.open(connection) as prepared:
        for _ in range(2):
            with pytest.raises(psycopg.errors.UndefinedTable, match="nowhere"):
                await prepared.execute(rows_of("SELECT FROM nowhere"))
            with pytest.raises(psycopg.errors.DivisionByZero):
                await prepared.execute(rows_of("SELECT 1 / %(by)s::int"), {"by": 0})
        assert await prepared.execute(rows_of("SELECT 2 / %(by)s::int"), {"by": 1}) == [(2,)]


async def test_a_statement_larger_than_any_buffer_is_sent_while_the_loop_goes_on(
    connection: psycopg.AsyncConnection,
) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    with PreparedConnection.open(connection) as prepared:
        assert await prepared.execute(SIZE, {"text": "x" * 30_000_000}) == [(30_000_000,)]
        assert await prepared.execute(SIZE, {"text": "x"}) == [(1,)]
    counting.cancel()
    assert turns > 100


@pytest.mark.parametrize("size", [1, 30_000_000], ids=["waiting", "sending"])
async def test_a_cut_ends_the_current_statement_and_every_later_one(
    connection: psycopg.AsyncConnection, proxy: Proxy, size: int
) -> None:
    before = _descriptors()
    with PreparedConnection.open(connection) as prepared:
        proxy.swallow()
        execution = asyncio.create_task(
            prepared.execute(rows_of("SELECT pg_sleep(60), %(text)s::text"), {"text": "x" * size})
        )
        done, _ = await asyncio.wait([execution], timeout=0.2)
        assert not done
        proxy.mend()
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError):
                await asyncio.wait_for(execution, 10)
            execution = asyncio.create_task(prepared.execute(rows_of("SELECT 1")))
        execution.cancel()
    await close_now(connection)
    assert _descriptors() < before


async def test_a_server_that_ends_the_connection_is_quoted(connection: psycopg.AsyncConnection) -> None:
    with (
        PreparedConnection.open(connection) as prepared,
        pytest.raises(psycopg.errors.AdminShutdown, match="terminating connection"),
    ):
        await prepared.execute(rows_of("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)"))


async def test_what_libpq_closed_and_another_file_has_taken_is_left_alone(
    connection: psycopg.AsyncConnection, proxy: Proxy
) -> None:
    """The number of a closed socket goes to whatever is opened next, and that may be watched as well."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    number = connection.fileno()
    with PreparedConnection.open(connection) as prepared:
        proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(prepared.execute(rows_of("SELECT pg_sleep(60)")), 10)
        reading, writing = os.pipe()
        os.dup2(reading, number)
        loop.add_reader(number, readable.set)
    os.write(writing, b"x")
    await asyncio.wait_for(readable.wait(), 10)
    loop.remove_reader(number)
    for fd in {reading, writing, number}:
        os.close(fd)


def _descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/dev/fd").iterdir()))
