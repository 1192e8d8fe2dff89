"""A connection for a few statements that are executed again and again.

Each is prepared when it is executed for the first time. From then on it is one message to the server and one response,
with nothing done in between that could be done once: psycopg's cursors inspect every parameter, and register the
socket with the event loop and unregister it for every response, which is half of what a small round trip costs here.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGresult

from aqueue.store.postgres.connection import Connection, watch_readable
from aqueue.store.postgres.statement import Statement

R = TypeVar("R")
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
_NO_PARAMETERS: Mapping[str, object] = {}


class PreparedConnection:
    """A connection that nothing else uses, one statement at a time; see `open`."""

    def __init__(self, connection: Connection) -> None:
        self._socket = -1
        self._libpq = connection.pgconn
        self._encoding = connection.info.encoding
        self._transformer = Transformer(connection)
        self._prepared: dict[str, tuple[bytes, list[str]]] = {}
        """By text: the name of the prepared statement, and its parameters in the order in which they are sent."""
        self._loop = asyncio.get_running_loop()
        self._progress = asyncio.Event()
        self._lost: psycopg.Error | None = None
        """Why nothing more comes from the server."""

    @classmethod
    @contextmanager
    def open(cls, connection: Connection) -> "Iterator[PreparedConnection]":
        """Use `connection` for prepared statements during the block."""
        prepared = cls(connection)
        with watch_readable(connection, prepared._read) as prepared._socket:
            yield prepared

    async def execute(self, statement: Statement[R], parameters: Mapping[str, object] = _NO_PARAMETERS) -> list[R]:
        """The rows that `statement`, whose placeholders are named, returns. Raises `psycopg.Error`."""
        if self._lost is not None:
            raise self._lost
        if statement.text not in self._prepared:
            await self._prepare(statement.text)
        name, order = self._prepared[statement.text]
        values = [str(parameters[key]).encode(self._encoding) for key in order]
        self._libpq.send_query_prepared(name, values, result_format=pq.Format.BINARY)
        result = await self._result()
        if result.ntuples == 0:
            return []
        self._transformer.set_pgresult(result)
        row = statement.row
        return [row(*values) for values in self._transformer.load_rows(0, result.ntuples, tuple)]

    async def _prepare(self, text: str) -> None:
        order = list(dict.fromkeys(_PLACEHOLDER.findall(text)))
        numbered = _PLACEHOLDER.sub(lambda found: f"${order.index(found[1]) + 1}", text)
        name = f"aqueue_{len(self._prepared)}".encode()
        self._libpq.send_prepare(name, numbered.encode(self._encoding))
        await self._result()
        self._prepared[text] = name, order

    async def _result(self) -> PGresult:
        """The server's response to what was sent."""
        await self._flush()
        results = []
        while True:
            while self._libpq.is_busy():
                self._progress.clear()
                await self._progress.wait()
            result = self._libpq.get_result()
            if result is None:
                break
            results.append(result)
        result = results[0]
        if result.status == pq.ExecStatus.FATAL_ERROR:
            from_server = result.error_field(pq.DiagnosticField.SQLSTATE) is not None
            raise error_from_result(result, self._encoding) if from_server or not self._lost else self._lost
        return result

    async def _flush(self) -> None:
        """Return when the operating system has taken all that was sent."""
        while self._libpq.flush():
            self._progress.clear()
            self._loop.add_writer(self._socket, self._progress.set)
            try:
                await self._progress.wait()
            finally:
                self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        """Read what has arrived."""
        try:
            self._libpq.consume_input()
        except psycopg.Error as error:  # raised to whoever waits, or executes the next statement
            self._lost = error
            self._loop.remove_reader(self._socket)
        self._progress.set()
