"""Hears the notices of other hosts, and passes them on."""

import asyncio
from collections.abc import Callable

import msgspec

from aqueue.store.postgres import notifications
from aqueue.store.postgres.connection import Connection, patience, watched
from aqueue.store.postgres.notifications import Notification

_SILENCE, _PATIENCE = 30.0, 5.0
"""Seconds without a notice after which the connection is tried, and in which it must answer."""


class Listener:
    """One connection that listens."""

    def __init__(self, hear: Callable[[Notification], None], again: Callable[[], None]) -> None:
        """`again` is called whenever listening begins: before that, any notice may have been missed."""
        self._hear = hear
        self._again = again

    async def run_on(self, connection: Connection) -> None:
        """Listen over `connection`, until it fails."""
        connection.add_notify_handler(lambda notice: self._pass_on(notice.payload.encode()))
        with patience(connection, _PATIENCE):
            await connection.execute(f"LISTEN {notifications.CHANNEL}")
        self._again()
        readable = asyncio.Event()
        with watched(connection, readable.set):
            while True:
                if await _set_within(readable, _SILENCE):
                    readable.clear()
                    connection.pgconn.consume_input()
                    while notice := connection.pgconn.notifies():
                        self._pass_on(notice.extra)
                else:
                    with patience(connection, _PATIENCE):
                        await connection.execute("SELECT")

    def _pass_on(self, payload: bytes) -> None:
        try:
            heard = notifications.decode(payload)
        except msgspec.MsgspecError:
            return  # of a newer version, or nobody's: the tables are the truth
        self._hear(heard)


async def _set_within(readable: asyncio.Event, seconds: float) -> bool:
    """Whether there is something to read before so many seconds have passed. (The driver's own wait for notices wakes
    up ten times a second.)"""
    try:
        async with asyncio.timeout(seconds):
            return await readable.wait()
    except TimeoutError:
        return False
