"""The connections of a process to its database: opened when needed, kept while idle, replaced when they fail."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from aqueue.errors import StoreError
from aqueue.store.postgres.connection import (
    TRANSACTION_CONFLICT,
    Connection,
    close_now,
    closed_by_server,
    connect,
    database_error,
    probe_while_waiting,
)

T = TypeVar("T")
_RETRIED = (*TRANSACTION_CONFLICT, psycopg.errors.UniqueViolation)
"""Errors after which a transaction is tried again; an id may have been generated that somebody chose just then."""
_TRIES = 5
_FIRST_RECONNECT_DELAY, MAX_RECONNECT_DELAY = 0.05, 5.0
"""Seconds before the first and between later attempts to connect again."""
_ACQUIRE_TIMEOUT = 10.0
"""Seconds to wait for a free connection while no other query is answered."""
MAX_CONNECTIONS = 4
"""For queries at the same time; round trips, notifications and heartbeats have connections of their own."""


class ConnectionPool:
    """The connections of one process to the database `store`."""

    def __init__(self, store: str, *, max_idle: int = 1) -> None:
        """`max_idle`: how many connections are kept while nobody uses them."""
        self.store = store
        self._max_idle = max_idle
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._responses = 0
        self._closed = False
        self._aborted = False
        self._dedicated: set[Connection] = set()

    async def close(self) -> None:
        """Close the idle connections, and every other when it is released."""
        self._closed = True
        await self._close_idle()

    async def _close_idle(self) -> None:
        while self._idle:
            await close_now(self._idle.pop())

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Hold a connection during the block. Raises `StoreError` for whatever goes wrong with the database."""
        await self._wait_for_free()
        try:
            connection = await self._pop_idle() or await connect(self.store)
            try:
                async with probe_while_waiting(connection, self.store):
                    yield connection
            except (psycopg.Error, TimeoutError) as error:
                await close_now(connection)  # whatever it was, such as a server that has become a standby
                raise database_error(self.store, error) from error
            except BaseException:
                await self._release(connection)
                raise
            self._responses += 1
            await self._release(connection)
        finally:
            self._free.release()

    async def _wait_for_free(self) -> None:
        """Return when there is a connection to use, however long that takes, as long as others get responses."""
        while True:
            before = self._responses
            try:
                async with asyncio.timeout(_ACQUIRE_TIMEOUT):
                    await self._free.acquire()
                return
            except TimeoutError as error:
                if self._responses == before:
                    raise database_error(self.store, error) from error

    async def _pop_idle(self) -> Connection | None:
        """An idle connection that the server has not closed."""
        while self._idle:
            connection = self._idle.pop()
            if not closed_by_server(connection):
                return connection
            await close_now(connection)
        return None

    async def _release(self, connection: Connection) -> None:
        reusable = connection.info.transaction_status == TransactionStatus.IDLE
        if reusable and not self._closed and len(self._idle) < self._max_idle:
            self._idle.append(connection)
        else:
            await close_now(connection)

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in a transaction, again if that conflicts with another one, and return what it returned.

        Raises `StoreError`, and what `work` raises.
        """
        for tries_left in reversed(range(_TRIES)):
            async with self.acquire() as connection:
                try:
                    async with connection.transaction():
                        return await work(connection)
                except _RETRIED:
                    if not tries_left:
                        raise
        raise AssertionError

    async def run_dedicated(
        self,
        use: Callable[[Connection], Any],
        on_failure: Callable[[StoreError], None],
        max_delay: float = MAX_RECONNECT_DELAY,
    ) -> None:
        """Give `use` a connection of its own, and another one whenever it fails, until `abort` or until it returns.

        `on_failure` is called with each failure; `max_delay` is the longest time between attempts, in seconds.
        """
        delay = _FIRST_RECONNECT_DELAY
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                connection = await connect(self.store)
                self._dedicated.add(connection)
                try:
                    await use(connection)
                    return
                finally:
                    self._dedicated.discard(connection)
                    await close_now(connection)
            except (StoreError, psycopg.Error, TimeoutError) as error:
                if self._aborted:
                    return
                on_failure(error if isinstance(error, StoreError) else database_error(self.store, error))
                await self._close_idle()  # the next connection may be to another server
            if clock() - began > delay:  # it has worked for a while, or has tried for long enough
                delay = _FIRST_RECONNECT_DELAY
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))
            delay = min(2 * delay, max_delay)

    def abort(self) -> None:
        """Close all dedicated connections for good; their tasks are cancelled next.

        psycopg would try to cancel their queries, which takes long where the server does not answer.
        """
        self._aborted = True
        for connection in self._dedicated:
            connection.pgconn.finish()
