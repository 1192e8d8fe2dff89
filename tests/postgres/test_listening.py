"""The connection on which notices are heard."""

import asyncio
import os

from aqueue.store.postgres.links import Links
from aqueue.store.postgres.waiting import Waiting


async def test_the_number_of_a_socket_that_was_given_up_is_free_for_the_application(database: str) -> None:
    """It goes to whatever is opened next, which may be watched before listening has ended."""
    links, listens, heard = Links(database, many=False), asyncio.Event(), asyncio.Event()
    waiting = Waiting(links, others=lambda notice: None, missed=listens.set)
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
