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
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from aqueue import url
from aqueue.errors import StoreError

T = TypeVar("T")
Connection = psycopg.AsyncConnection[Any]
COLLISION = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
"""What says that another transaction got into the way of this one, which is worth another try."""
LOCKED = psycopg.errors.LockNotAvailable
"""What says that somebody else's transaction has kept a lock for longer than one is waited for."""
_IN_THE_WAY = (*COLLISION, psycopg.errors.UniqueViolation)
"""The same, where an id may have been made that somebody chose in that moment."""
_TRIES = 5
_FIRST_WAIT, LONGEST_WAIT = 0.05, 5.0
"""Seconds before the first and between later attempts to connect again."""
_LONGEST_QUEUE = 10.0
"""Seconds in which it must be a question's turn, behind others that wait for their answers."""
_CONNECTIONS = 4
"""For questions that are asked at the same time; claims, notices and heartbeats have connections of their own."""
_OPTIONS: dict[str, Any] = {
    "application_name": "aqueue",
    "connect_timeout": 5,
    # A peer that vanished is noticed after about ten seconds, instead of hours.
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Where the URL does not say otherwise."""
_ENCODING = "UTF8"
"""Whatever the URL or the database says: what is stored is text of any language."""
_LONGEST_WAIT_FOR_LOCK = 4
"""Seconds. Less than anybody here is patient for, so that no abandoned connection leaves a backend that still waits."""
_SESSION = {
    "lock_timeout": f"{_LONGEST_WAIT_FOR_LOCK}s",
    # A client that vanished in the middle of a transaction does not keep what it locked.
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""What the server is told once it has let us in: PgBouncer refuses such things before."""
_SET = "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS session (name, value)"
_TO_SET = 5.0
"""Seconds in which it must have done so."""

# What psycopg warns of, a query that could not be cancelled, is said here as what it means; an application that wants
# to hear it has handlers of its own.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


class Links:
    """The ways to one database."""

    def __init__(self, store: str, *, many: bool) -> None:
        """`many`: for a process that asks again and again, so that several connections are kept."""
        self._store = store
        self._most_idle = _CONNECTIONS if many else 1
        self._idle: list[Connection] = []
        self._seats = asyncio.Semaphore(_CONNECTIONS)
        self._closed = False
        self._abandoned = False
        self._held: set[Connection] = set()

    async def close(self) -> None:
        """Keep no connection."""
        self._closed = True
        while self._idle:
            await give_up(self._idle.pop())

    async def connect(self) -> Connection:
        """A connection of one's own. Raises `StoreError`."""
        try:
            named = conninfo_to_dict(self._store)
            options = {**_OPTIONS, **named, "client_encoding": _ENCODING}
            connection = await psycopg.AsyncConnection.connect(**options, autocommit=True)
            try:
                with patience(connection, _TO_SET):
                    await connection.execute(_SET, (list(_SESSION), list(_SESSION.values())))
            except BaseException:
                await give_up(connection)
                raise
        except (psycopg.Error, TimeoutError) as error:
            raise self.failed(error) from error
        return connection

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Connection]:
        """A connection for a question. What goes wrong with the database is a `StoreError`."""
        try:
            async with asyncio.timeout(_LONGEST_QUEUE):
                await self._seats.acquire()
        except TimeoutError as error:
            raise self.failed(error) from error
        try:
            connection = await self._usable() or await self.connect()
            try:
                yield connection
            finally:
                await self._put_back(connection)
        except psycopg.Error as error:
            raise self.failed(error) from error
        finally:
            self._seats.release()

    async def _usable(self) -> Connection | None:
        """An idle connection that the server has not ended meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            if not _hung_up(connection):
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
                connection = await self.connect()
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
                failed(error if isinstance(error, StoreError) else self.failed(error))
            if clock() - began > wait:  # it has worked for a while, or has tried for long enough
                wait = _FIRST_WAIT
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))
            wait = min(2 * wait, longest_wait)

    def failed(self, error: Exception) -> StoreError:
        """What went wrong with the database, as one line."""
        if isinstance(error, TimeoutError):
            reason = "it does not answer"
        elif isinstance(error, LOCKED):
            reason = f"another transaction has kept a lock for more than {_LONGEST_WAIT_FOR_LOCK} s on what is wanted"
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


@contextmanager
def watched(connection: Connection, readable: Callable[[], object]) -> Iterator[int]:
    """Call `readable` in each turn of the loop in which there is something to read from a connection.

    What is watched, and returned, is a number of its own for the socket: libpq closes its own as soon as the
    connection is lost or given up, and the next file of the application may get that one and be watched as well.
    """
    loop = asyncio.get_running_loop()
    line = os.dup(connection.fileno())
    loop.add_reader(line, readable)
    try:
        yield line
    finally:
        loop.remove_reader(line)
        os.close(line)


def _cut(connection: Connection) -> None:
    """Let everything that waits for the other side find that it is gone."""
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


def _hung_up(connection: Connection) -> bool:
    """Whether the server has ended a connection while it was idle: then there is something to read."""
    look = select.poll()
    look.register(connection.fileno(), select.POLLIN)
    return bool(look.poll(0))


async def give_up(connection: Connection) -> None:
    """Close a connection, whatever state it is in, without waiting for the other side."""
    connection.pgconn.finish()
    await connection.close()
