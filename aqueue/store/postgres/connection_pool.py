"""All connections of a process to its database: made, kept, given up and made again."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from aqueue.errors import StoreError
from aqueue.store.postgres.connection import COLLISION, Connection, connect, doubted, failure, give_up, hung_up

T = TypeVar("T")
_IN_THE_WAY = (*COLLISION, psycopg.errors.UniqueViolation)
"""The same, where an id may have been made that somebody chose in that moment."""
_TRIES = 5
_FIRST_WAIT, LONGEST_WAIT = 0.05, 5.0
"""Seconds before the first and between later attempts to connect again."""
_LONGEST_QUEUE = 10.0
"""Seconds without an answer to anybody after which a question no longer waits for its turn."""
_CONNECTIONS = 4
"""For questions that are asked at the same time; claims, notices and heartbeats have connections of their own."""


class ConnectionPool:
    """The ways to one database."""

    def __init__(self, store: str, *, many: bool) -> None:
        """`many`: for a process that asks again and again, so that several connections are kept."""
        self.store = store
        self._most_idle = _CONNECTIONS if many else 1
        self._idle: list[Connection] = []
        self._seats = asyncio.Semaphore(_CONNECTIONS)
        self._answers = 0
        self._closed = False
        self._abandoned = False
        self._held: set[Connection] = set()

    async def close(self) -> None:
        """Keep no connection."""
        self._closed = True
        await self._forget()

    async def _forget(self) -> None:
        """Keep no connection from before."""
        while self._idle:
            await give_up(self._idle.pop())

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Connection]:
        """A connection for a question. What goes wrong with the database is a `StoreError`."""
        await self._have_seat()
        try:
            connection = await self._usable() or await connect(self.store)
            try:
                async with doubted(connection, self.store):
                    yield connection
            except (psycopg.Error, TimeoutError) as error:
                await give_up(connection)  # whatever it was, such as a server that is not the writer any more
                raise failure(self.store, error) from error
            except BaseException:
                await self._put_back(connection)
                raise
            self._answers += 1
            await self._put_back(connection)
        finally:
            self._seats.release()

    async def _have_seat(self) -> None:
        """Return when it is a question's turn, however long that takes, as long as others get their answers."""
        while True:
            before = self._answers
            try:
                async with asyncio.timeout(_LONGEST_QUEUE):
                    await self._seats.acquire()
                return
            except TimeoutError as error:
                if self._answers == before:
                    raise failure(self.store, error) from error

    async def _usable(self) -> Connection | None:
        """An idle connection that the server has not ended meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            if not hung_up(connection):
                return connection
            await give_up(connection)
        return None

    async def _put_back(self, connection: Connection) -> None:
        at_rest = connection.info.transaction_status == TransactionStatus.IDLE
        if at_rest and not self._closed and len(self._idle) < self._most_idle:
            self._idle.append(connection)
        else:
            await give_up(connection)

    async def change(self, make: Callable[[Connection], Awaitable[T]]) -> T:
        """What `make` returns, done in a transaction: all of it or nothing. It is done anew where it got into the way
        of another one."""
        for tries_left in reversed(range(_TRIES)):
            async with self.asking() as connection:
                try:
                    async with connection.transaction():
                        return await make(connection)
                except _IN_THE_WAY:
                    if not tries_left:
                        raise
        raise AssertionError

    def abandon(self) -> None:
        """Close the connections of `held`, which makes no others, and whose tasks are cancelled next: to cancel a query
        that is under way takes long where nobody answers."""
        self._abandoned = True
        for connection in self._held:
            connection.pgconn.finish()

    async def held(
        self,
        use: Callable[[Connection], Any],
        failed: Callable[[StoreError], None],
        longest_wait: float = LONGEST_WAIT,
    ) -> None:
        """Give `use` a connection of its own, and another one whenever it fails, until `abandon`; `failed` hears
        why."""
        wait = _FIRST_WAIT
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                connection = await connect(self.store)
                self._held.add(connection)
                try:
                    await use(connection)
                    return
                finally:
                    self._held.discard(connection)
                    await give_up(connection)
            except (StoreError, psycopg.Error, TimeoutError) as error:
                if self._abandoned:
                    return
                failed(error if isinstance(error, StoreError) else failure(self.store, error))
                await self._forget()  # the next one may be to another server
            if clock() - began > wait:  # it has worked for a while, or has tried for long enough
                wait = _FIRST_WAIT
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))
            wait = min(2 * wait, longest_wait)
