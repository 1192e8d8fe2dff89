"""The connection that listens for notifications, and the one place from which they go to whom they concern."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from aqueue.store.postgres import notifications
from aqueue.store.postgres.connection import Connection, time_limit, watch_readable
from aqueue.store.postgres.connection_pool import ConnectionPool
from aqueue.store.postgres.notifications import Notification

N = TypeVar("N", bound=Notification)
_log = logging.getLogger("aqueue.store.postgres")
_MAX_SILENCE, _PROBE_TIME_LIMIT = 30.0, 5.0
"""Seconds without a notification after which the connection is probed, and in which the server must respond."""
_RESTART_DELAY = 1.0
"""Seconds until listening begins again after a callback has raised."""


class Listener:
    """Listens once `start` was called, and calls back for each notification by its type."""

    def __init__(self, connections: ConnectionPool) -> None:
        self._connections = connections
        self._callbacks: dict[type[Any], Callable[[Any], None]] = {}
        self._on_gap: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def on(self, kind: type[N], callback: Callable[[N], None]) -> None:
        """Call `callback` with each notification of that type."""
        self._callbacks[kind] = callback

    def on_gap(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever listening has begun: until then, notifications may have been missed."""
        self._on_gap.append(callback)

    def start(self) -> None:
        """Listen from now on, unless it does so already."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="aqueue listener")

    def close(self) -> None:
        """Do not begin to listen again."""
        self._closed = True

    async def stop(self) -> None:
        """Return once nothing is called any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Listen until cancelled: the exception of one callback does not keep the next notification from any."""
        while not self._closed:
            try:
                await self._connections.run_dedicated(self._listen, lambda error: None)
                return
            except Exception as error:
                _log.warning("listening for notifications failed, and begins again: %r", error)
            await asyncio.sleep(_RESTART_DELAY)

    async def _listen(self, connection: Connection) -> None:
        """Listen on `connection`, until it fails."""
        connection.add_notify_handler(lambda notify: self._dispatch(notify.payload.encode()))
        with time_limit(connection, _PROBE_TIME_LIMIT):
            await connection.execute(f"LISTEN {notifications.CHANNEL}")
        for callback in self._on_gap:
            callback()
        readable = asyncio.Event()
        with watch_readable(connection, readable.set):
            while True:
                if await _is_set_within(readable, _MAX_SILENCE):
                    readable.clear()
                    connection.pgconn.consume_input()
                    while notify := connection.pgconn.notifies():
                        self._dispatch(notify.extra)
                else:
                    with time_limit(connection, _PROBE_TIME_LIMIT):
                        await connection.execute("SELECT")

    def _dispatch(self, payload: bytes) -> None:
        try:
            notification = notifications.decode(payload)
        except msgspec.MsgspecError:
            return  # of a newer version, or somebody else's: the tables are the truth
        callback = self._callbacks.get(type(notification))
        if callback is not None:
            callback(notification)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set before so many seconds have passed. (psycopg's own wait for notifications wakes up ten
    times a second.)"""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
