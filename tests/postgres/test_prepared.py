"""What a pool's traffic goes over: many questions on one connection, until that is lost."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from aqueue.store.postgres.connection import connect, give_up
from aqueue.store.postgres.prepared import PreparedConnection
from tests.postgres.proxy import Proxy

ECHO = "SELECT %(text)s::text, %(number)s::int, %(text)s::text"
SIZE = "SELECT length(%(text)s::text)"


@pytest.fixture
async def connection(proxy: Proxy) -> AsyncIterator[psycopg.AsyncConnection]:
    connection = await connect(proxy.url)
    yield connection
    await give_up(connection)


async def test_it_answers_one_question_after_the_other(connection: psycopg.AsyncConnection) -> None:
    with PreparedConnection.opened(connection) as line:
        for number in range(3):
            assert await line.ask(ECHO, {"text": "ä%s'\\", "number": number}) == [("ä%s'\\", number, "ä%s'\\")]
        assert await line.ask("SELECT generate_series(1, 3)") == [(1,), (2,), (3,)]
        assert await line.ask("SELECT 1 WHERE false") == []
        assert await line.ask("SET jit = off") == []
    assert await (await connection.execute("SELECT 4")).fetchone() == (4,), "it is an ordinary connection again"


async def test_a_refused_question_says_why_and_the_next_is_answered(connection: psycopg.AsyncConnection) -> None:
    with PreparedConnection.opened(connection) as line:
        for _ in range(2):
            with pytest.raises(psycopg.errors.UndefinedTable, match="nowhere"):
                await line.ask("SELECT FROM nowhere")
            with pytest.raises(psycopg.errors.DivisionByZero):
                await line.ask("SELECT 1 / %(by)s::int", {"by": 0})
        assert await line.ask("SELECT 2 / %(by)s::int", {"by": 1}) == [(2,)]


async def test_a_question_larger_than_any_buffer_is_sent_while_the_loop_goes_on(
    connection: psycopg.AsyncConnection,
) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    with PreparedConnection.opened(connection) as line:
        assert await line.ask(SIZE, {"text": "x" * 30_000_000}) == [(30_000_000,)]
        assert await line.ask(SIZE, {"text": "x"}) == [(1,)]
    counting.cancel()
    assert turns > 100


@pytest.mark.parametrize("size", [1, 30_000_000], ids=["waiting", "sending"])
async def test_a_cut_ends_the_question_under_way_and_every_later_one(
    connection: psycopg.AsyncConnection, proxy: Proxy, size: int
) -> None:
    before = _descriptors()
    with PreparedConnection.opened(connection) as line:
        proxy.swallow()
        question = asyncio.create_task(line.ask("SELECT pg_sleep(60), %(text)s::text", {"text": "x" * size}))
        done, _ = await asyncio.wait([question], timeout=0.2)
        assert not done
        proxy.mend()
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError):
                await asyncio.wait_for(question, 10)
            question = asyncio.create_task(line.ask("SELECT 1"))
        question.cancel()
    await give_up(connection)
    assert _descriptors() < before


async def test_a_server_that_ends_the_connection_is_quoted(connection: psycopg.AsyncConnection) -> None:
    with (
        PreparedConnection.opened(connection) as line,
        pytest.raises(psycopg.errors.AdminShutdown, match="terminating connection"),
    ):
        await line.ask("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)")


async def test_what_libpq_closed_and_another_file_has_taken_is_left_alone(
    connection: psycopg.AsyncConnection, proxy: Proxy
) -> None:
    """The number of a closed socket goes to whatever is opened next, and that may be watched as well."""
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    number = connection.fileno()
    with PreparedConnection.opened(connection) as line:
        proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(line.ask("SELECT pg_sleep(60)"), 10)
        reading, writing = os.pipe()
        os.dup2(reading, number)
        loop.add_reader(number, heard.set)
    os.write(writing, b"x")
    await asyncio.wait_for(heard.wait(), 10)
    loop.remove_reader(number)
    for fd in {reading, writing, number}:
        os.close(fd)


def _descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/dev/fd").iterdir()))
