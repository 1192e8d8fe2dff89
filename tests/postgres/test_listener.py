"""The connection that listens for notifications, and whom it calls."""

import asyncio
import os

import psycopg
import pytest

from aqueue.store.postgres.connection_pool import ConnectionPool
from aqueue.store.postgres.listener import Listener
from aqueue.store.postgres.notifications import PoolAsked

NOTIFY = """NOTIFY aqueue, '{"type":"Told"}'"""


async def test_the_number_of_a_socket_that_was_closed_is_free_for_the_application(database: str) -> None:
    """It goes to whatever is opened next, which may be watched before listening has ended."""
    pool, listening, readable = ConnectionPool(database), asyncio.Event(), asyncio.Event()
    listener = Listener(pool)
    listener.on_gap(listening.set)
    listener.start()
    await asyncio.wait_for(listening.wait(), 10)
    (connection,) = pool._dedicated
    number = connection.fileno()
    await asyncio.sleep(0)  # it waits for notifications
    pool.abort()
    read, write = os.pipe()
    os.dup2(read, number)
    loop = asyncio.get_running_loop()
    loop.add_reader(number, readable.set)
    await listener.stop()
    os.write(write, b"x")
    await asyncio.wait_for(readable.wait(), 10)
    loop.remove_reader(number)
    for fd in {read, write, number}:
        os.close(fd)


async def test_what_a_callback_raises_is_logged_and_it_is_called_for_the_next_notification(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    listening, received = asyncio.Event(), asyncio.Queue[PoolAsked]()

    def receive(notification: PoolAsked) -> None:
        received.put_nowait(notification)
        if received.qsize() == 1:
            raise RuntimeError("what nobody expects")

    listener = Listener(ConnectionPool(database))
    listener.on(PoolAsked, receive)
    listener.on_gap(listening.set)
    listener.start()
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection, asyncio.timeout(10):
        await listening.wait()
        listening.clear()
        await connection.execute(NOTIFY)
        await listening.wait()  # it began again
        assert "RuntimeError('what nobody expects')" in caplog.text
        await connection.execute(NOTIFY)
        assert [await received.get(), await received.get()] == [PoolAsked(), PoolAsked()]
    await listener.stop()
