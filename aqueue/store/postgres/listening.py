"""Hears the notices of other hosts, and passes them on."""

import asyncio
from collections.abc import Callable

import msgspec

from aqueue.store.postgres import notices
from aqueue.store.postgres.links import Connection
from aqueue.store.postgres.notices import Notice


class Listening:
    """One connection that listens."""

    def __init__(self, hear: Callable[[Notice], None], again: Callable[[], None]) -> None:
        """`again` is called whenever listening begins: before that, any notice may have been missed."""
        self._hear = hear
        self._again = again

    async def run_on(self, connection: Connection) -> None:
        """Listen over `connection`, until it fails.

        The socket is watched here because the driver's own `notifies` wakes up ten times a second.
        """
        await connection.execute(f"LISTEN {notices.CHANNEL}")
        self._again()
        readable = asyncio.Event()
        loop, socket = asyncio.get_running_loop(), connection.fileno()
        loop.add_reader(socket, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                connection.pgconn.consume_input()
                while notice := connection.pgconn.notifies():
                    self._pass_on(notice.extra)
        finally:
            loop.remove_reader(socket)

    def _pass_on(self, payload: bytes) -> None:
        try:
            heard = notices.decode(payload)
        except msgspec.MsgspecError:
            return  # of a newer version, or nobody's: the tables are the truth
        self._hear(heard)
