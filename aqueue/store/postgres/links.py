"""Connections to the database: made, checked, given up and made again."""

import asyncio
import logging
import os
import random
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool, AsyncNullConnectionPool, PoolTimeout

from aqueue import url
from aqueue.errors import StoreError

T = TypeVar("T")
Connection = psycopg.AsyncConnection[Any]
IN_THE_WAY = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.UniqueViolation,
)
"""What says that another transaction got into the way of this one, which is worth another try."""
_TRIES = 5
_FIRST_WAIT, LONGEST_WAIT = 0.05, 5.0
"""Seconds before the first and between later attempts to connect again."""
_CONNECTIONS = 4
"""For questions that are asked at the same time; claims, notices and heartbeats have connections of their own."""
_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "application_name": "aqueue",
    "connect_timeout": 5,
    # A peer that vanished is noticed after about ten seconds, instead of hours.
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

# What psycopg has to say of lost connections is said here, once and not again with every attempt; an application
# that wants to hear it all has handlers of its own.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


class Links:
    """The ways to one database."""

    def __init__(self, store: str, *, many: bool) -> None:
        """`many`: for a process that asks again and again, so that connections are kept."""
        self._store = store
        kind = AsyncConnectionPool if many else AsyncNullConnectionPool
        self._pool = kind(
            store,
            kwargs=_OPTIONS,
            min_size=int(many),
            max_size=_CONNECTIONS,
            open=False,
            timeout=10,
            check=_not_hung_up,
            name="aqueue",
        )
        self._held: set[Connection] = set()

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def connect(self) -> Connection:
        """A connection of one's own. Raises `StoreError`."""
        try:
            return await psycopg.AsyncConnection.connect(self._store, **_OPTIONS)
        except psycopg.Error as error:
            raise self.failed(error) from error

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Connection]:
        """A connection for a question. What goes wrong with the database is a `StoreError`."""
        try:
            async with self._pool.connection() as connection:
                yield connection
        except psycopg.Error as error:
            raise self.failed(error) from error

    async def change(self, make: Callable[[Connection], Awaitable[T]]) -> T:
        """What `make` returns, done in a transaction: all of it or nothing. It is done anew where it got into the way
        of another one."""
        for tries_left in reversed(range(_TRIES)):
            async with self.asking() as connection:
                try:
                    async with connection.transaction():
                        return await make(connection)
                except IN_THE_WAY:
                    if not tries_left:
                        raise
        raise AssertionError

    def abandon(self) -> None:
        """Close the connections of `held`, whose tasks are cancelled next: to cancel a query that is under way takes
        long where nobody answers."""
        for connection in self._held:
            connection.pgconn.finish()

    async def held(
        self,
        use: Callable[[Connection], Any],
        failed: Callable[[StoreError], None],
        longest_wait: float = LONGEST_WAIT,
    ) -> None:
        """Give `use` a connection of its own, and another one whenever it fails; `failed` hears why."""
        wait = _FIRST_WAIT
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                connection = await self.connect()
                self._held.add(connection)
                try:
                    await use(connection)
                    return
                finally:
                    self._held.discard(connection)
                    await give_up(connection)
            except (StoreError, psycopg.Error, TimeoutError) as error:
                failed(error if isinstance(error, StoreError) else self.failed(error))
            if clock() - began > LONGEST_WAIT:
                wait = _FIRST_WAIT
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))
            wait = min(2 * wait, longest_wait)

    def failed(self, error: Exception) -> StoreError:
        """What went wrong with the database, as one line."""
        if isinstance(error, TimeoutError):
            reason = "it does not answer"
        elif isinstance(error, PoolTimeout):
            reason = "it cannot be reached"
        else:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return StoreError(f"database {url.shown(self._store)}: {reason}")


@contextmanager
def patience(connection: Connection, seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` if what is done over a connection takes longer, which ends the connection.

    A query that is cancelled is still waited for, so where nobody answers `asyncio.timeout` alone does not help.
    """
    loop = asyncio.get_running_loop()
    timer = loop.call_later(seconds, _cut, connection)
    try:
        yield
    except psycopg.OperationalError as error:
        if timer.when() <= loop.time():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


def _cut(connection: Connection) -> None:
    """Let everything that waits for the other side find that it is gone."""
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


async def _not_hung_up(connection: Connection) -> None:
    """Raise `OperationalError` if the server has ended a connection while it was idle, without asking the server."""
    look = select.poll()
    look.register(connection.fileno(), select.POLLIN)
    if look.poll(0):
        raise psycopg.OperationalError("the server has hung up")


async def give_up(connection: Connection) -> None:
    """Close a connection, whatever state it is in, without waiting for the other side."""
    connection.pgconn.finish()
    await connection.close()
