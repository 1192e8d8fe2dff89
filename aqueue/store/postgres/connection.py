"""One connection to the database: how it is made, watched, and given up."""

import asyncio
import logging
import os
import select
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from aqueue.errors import StoreError
from aqueue.settings import store_url

Connection = psycopg.AsyncConnection[Any]
COLLISION = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
"""What says that another transaction got into the way of this one, which is worth another try."""
LOCKED = psycopg.errors.LockNotAvailable
"""What says that somebody else's transaction has kept a lock for longer than one is waited for."""
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
    "DateStyle": "ISO",  # the only one that can be read
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""What the server is told once it has let us in: PgBouncer refuses such things before."""
_SET = "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS session (name, value)"
_DOUBT = 10.0
"""Seconds without an answer after which somebody looks whether the server is there, and then again."""
_TO_SET = 5.0
"""Seconds in which it must have done so."""

# What psycopg warns of, a query that could not be cancelled, is said here as what it means; an application that wants
# to hear it has handlers of its own.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


async def connect(store: str) -> Connection:
    """A connection to the database at this URL. Raises `StoreError`."""
    try:
        options = {**_OPTIONS, **conninfo_to_dict(store), "client_encoding": _ENCODING}
        connection = await psycopg.AsyncConnection.connect(**options, autocommit=True)
        try:
            with patience(connection, _TO_SET):
                await connection.execute(_SET, (list(_SESSION), list(_SESSION.values())))
        except BaseException:
            await give_up(connection)
            raise
    except (psycopg.Error, TimeoutError) as error:
        raise failure(store, error) from error
    return connection


def failure(store: str, error: Exception) -> StoreError:
    """What went wrong with the database at this URL, as one line."""
    if isinstance(error, TimeoutError):
        reason = "it does not answer"
    elif isinstance(error, LOCKED):
        reason = f"another transaction has kept a lock for more than {_LONGEST_WAIT_FOR_LOCK} s on what is wanted"
    else:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return StoreError(f"database {store_url.redacted(store)}: {reason}")


@contextmanager
def patience(connection: Connection, seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` if what is done over a connection takes longer, which ends the connection.

    A query that is cancelled is still waited for, so where nobody answers `asyncio.timeout` alone does not help.
    """
    loop = asyncio.get_running_loop()
    timer = loop.call_later(seconds, cut, connection)
    try:
        yield
    except psycopg.OperationalError as error:
        if timer.when() <= loop.time():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


@asynccontextmanager
async def doubted(connection: Connection, store: str) -> AsyncIterator[None]:
    """Raise `TimeoutError` if the server has fallen silent, which ends the connection: when what is done over it takes
    long, somebody looks now and then whether the server answers at all. A question itself may take as long as it does.
    """
    looks: list[asyncio.Task[None]] = []

    def begin() -> None:
        looks.append(asyncio.create_task(_look_at_server(connection, store)))

    timer = asyncio.get_running_loop().call_later(_DOUBT, begin)
    try:
        yield
    except psycopg.OperationalError as error:
        if any(task.done() for task in looks):
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
        for task in looks:
            task.cancel()


async def _look_at_server(connection: Connection, store: str) -> None:
    """Return when no new connection is answered any more, having cut this one."""
    while True:
        try:
            await give_up(await connect(store))
        except StoreError as error:
            if isinstance(error.__cause__, TimeoutError | psycopg.errors.ConnectionTimeout):
                break
        await asyncio.sleep(_DOUBT)
    cut(connection)


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


def cut(connection: Connection) -> None:
    """Let everything that waits for the other side find that it is gone."""
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


def hung_up(connection: Connection) -> bool:
    """Whether the server has ended a connection while it was idle: then there is something to read."""
    look = select.poll()
    look.register(connection.fileno(), select.POLLIN)
    return bool(look.poll(0))


async def give_up(connection: Connection) -> None:
    """Close a connection, whatever state it is in, without waiting for the other side."""
    connection.pgconn.finish()
    await connection.close()
