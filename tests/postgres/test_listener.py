"""The connection on which notices are heard."""

import asyncio
import os

import psycopg

from aqueue.store.postgres.connection_pool import ConnectionPool
from aqueue.store.postgres.notifications import Notification, Told
from aqueue.store.postgres.waiters import Waiters

NOTIFY = """NOTIFY aqueue, '{"type":"Told"}'"""


async def test_the_number_of_a_socket_that_was_given_up_is_free_for_the_application(database: str) -> None:
    """It goes to whatever is opened next, which may be watched before listening has ended."""
    links, listens, heard = ConnectionPool(database, many=False), asyncio.Event(), asyncio.Event()
    waiting = Waiters(links, others=lambda notice: None, missed=listens.set, report=print)
    waiting.listen()
    await asyncio.wait_for(listens.wait(), 10)
    (connection,) = links._held
    number = connection.fileno()
    await asyncio.sleep(0)  # it waits for notices
    links.abandon()
    reading, writing = os.pipe()
    os.dup2(reading, number)
    loop = asyncio.get_running_loop()
    loop.add_reader(number, heard.set)
    await waiting.stop_listening()
    os.write(writing, b"x")
    await asyncio.wait_for(heard.wait(), 10)
    loop.remove_reader(number)
    for fd in {reading, writing, number}:
        os.close(fd)


async def test_what_a_notice_broke_is_reported_and_the_next_one_is_heard(database: str) -> None:
    links, listens, reports = ConnectionPool(database, many=False), asyncio.Event(), asyncio.Queue[str]()
    heard = asyncio.Queue[Notification]()

    def hear(notice: Notification) -> None:
        heard.put_nowait(notice)
        if heard.qsize() == 1:
            raise RuntimeError("what nobody expects")

    waiting = Waiters(links, others=hear, missed=listens.set, report=reports.put_nowait)
    waiting.listen()
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection, asyncio.timeout(10):
        await listens.wait()
        listens.clear()
        await connection.execute(NOTIFY)
        assert "RuntimeError('what nobody expects')" in await reports.get()
        await listens.wait()
        await connection.execute(NOTIFY)
        assert [await heard.get(), await heard.get()] == [Told(), Told()]
    await waiting.stop_listening()
