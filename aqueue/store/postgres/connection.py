"""One connection to the database: how it is opened, configured, watched and closed."""

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
TRANSACTION_CONFLICT = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
"""Raised when this transaction conflicted with another one: it is worth another try."""
LOCK_TIMEOUT = psycopg.errors.LockNotAvailable
"""Raised when another transaction has held a lock for longer than `lock_timeout`."""
_DEFAULT_OPTIONS: dict[str, Any] = {
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
"""Whatever the URL or the database says: jobs hold text of any language."""
_LOCK_TIMEOUT_SECONDS = 4
"""Shorter than any time limit here, so that no abandoned connection leaves a backend that still waits for a lock."""
_SESSION_SETTINGS = {
    "lock_timeout": f"{_LOCK_TIMEOUT_SECONDS}s",
    # A client that vanished in the middle of a transaction does not keep its locks.
    "idle_in_transaction_session_timeout": "60s",
    "DateStyle": "ISO",  # the only one that psycopg can read
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""Set once the connection is open: PgBouncer refuses such settings as connection options."""
_SET_SESSION = "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS session (name, value)"
_SESSION_TIME_LIMIT = 5.0
"""Seconds in which the server must have done so."""
_PROBE_INTERVAL = 10.0
"""Seconds without a response before the server is probed, and between two probes."""

# A query that could not be cancelled, which psycopg warns of, is reported here as what it means; an application that
# wants psycopg's warnings has handlers of its own.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


async def connect(store: str) -> Connection:
    """Open a connection to the database at this URL, in autocommit mode. Raises `StoreError`."""
    try:
        options = {**_DEFAULT_OPTIONS, **conninfo_to_dict(store), "client_encoding": _ENCODING}
        connection = await psycopg.AsyncConnection.connect(**options, autocommit=True)
        try:
            with time_limit(connection, _SESSION_TIME_LIMIT):
                await connection.execute(_SET_SESSION, (list(_SESSION_SETTINGS), list(_SESSION_SETTINGS.values())))
        except BaseException:
            await close_now(connection)
            raise
    except (psycopg.Error, TimeoutError) as error:
        raise database_error(store, error) from error
    return connection


def database_error(store: str, error: Exception) -> StoreError:
    """What went wrong with the database at this URL, in one line."""
    if isinstance(error, TimeoutError):
        reason = "it does not answer"
    elif isinstance(error, LOCK_TIMEOUT):
        reason = f"another transaction has kept a lock for more than {_LOCK_TIMEOUT_SECONDS} s on what is wanted"
    else:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return StoreError(f"database {store_url.redacted(store)}: {reason}")


@contextmanager
def time_limit(connection: Connection, seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` if the block takes longer, which ends the connection.

    psycopg waits for the server's response to a cancelled query, so `asyncio.timeout` alone does not help against a
    server that is silent.
    """
    loop = asyncio.get_running_loop()
    timer = loop.call_later(seconds, shut_down, connection)
    try:
        yield
    except psycopg.OperationalError as error:
        if timer.when() <= loop.time():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


@asynccontextmanager
async def probe_while_waiting(connection: Connection, store: str) -> AsyncIterator[None]:
    """Raise `TimeoutError` if the server falls silent, which ends the connection.

    A query may take as long as it needs: while the block takes long, new connections show whether the server answers.
    """
    probes: list[asyncio.Task[None]] = []

    def begin() -> None:
        probes.append(asyncio.create_task(_probe_server(connection, store)))

    timer = asyncio.get_running_loop().call_later(_PROBE_INTERVAL, begin)
    try:
        yield
    except psycopg.OperationalError as error:
        if any(task.done() for task in probes):
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
        for task in probes:
            task.cancel()


async def _probe_server(connection: Connection, store: str) -> None:
    """Return once the server accepts no new connection any more, after shutting down this one."""
    while True:
        try:
            await close_now(await connect(store))
        except StoreError as error:
            if isinstance(error.__cause__, TimeoutError | psycopg.errors.ConnectionTimeout):
                break
        await asyncio.sleep(_PROBE_INTERVAL)
    shut_down(connection)


@contextmanager
def watch_readable(connection: Connection, on_readable: Callable[[], object]) -> Iterator[int]:
    """Call `on_readable` in each turn of the loop in which there is something to read from a connection.

    What is watched, and returned, is a duplicate of the socket's descriptor: libpq closes its own as soon as the
    connection is lost or closed, and the application's next file may get that number and be watched as well.
    """
    loop = asyncio.get_running_loop()
    descriptor = os.dup(connection.fileno())
    loop.add_reader(descriptor, on_readable)
    try:
        yield descriptor
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def shut_down(connection: Connection) -> None:
    """Shut down the socket: whatever waits for the server fails at once."""
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)


def closed_by_server(connection: Connection) -> bool:
    """Whether the server has closed a connection while it was idle: then there is something to read."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def close_now(connection: Connection) -> None:
    """Close a connection in whatever state, without waiting for the server."""
    connection.pgconn.finish()
    await connection.close()
