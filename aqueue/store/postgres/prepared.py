"""A connection for a few statements that are asked again and again.

Each is prepared when it is asked for the first time. From then on asking it is one message to the server and one
answer, with nothing done in between that could be done once: psycopg's cursors look at every parameter, and enter the
socket into the event loop and take it out again for every answer, which is half of what a small round trip costs here.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGresult

from aqueue.store.postgres.connection import Connection, watched
from aqueue.store.postgres.rows import Row

_PARAMETER = re.compile(r"%\((\w+)\)s")
_NOTHING: Mapping[str, object] = {}


class PreparedConnection:
    """A connection while nothing else uses it. One question at a time."""

    def __init__(self, connection: Connection) -> None:
        """Only between `opened` and its end."""
        self._socket = -1
        self._libpq = connection.pgconn
        self._encoding = connection.info.encoding
        self._rows = Transformer(connection)
        self._prepared: dict[str, tuple[bytes, list[str]]] = {}
        """By statement: its name, and its parameters in the order in which they are sent."""
        self._loop = asyncio.get_running_loop()
        self._moved = asyncio.Event()
        self._lost: psycopg.Error | None = None
        """Why nothing more comes from the server."""

    @classmethod
    @contextmanager
    def opened(cls, connection: Connection) -> "Iterator[PreparedConnection]":
        """A line over `connection`."""
        line = cls(connection)
        with watched(connection, line._read) as line._socket:
            yield line

    async def ask(self, statement: str, parameters: Mapping[str, object] = _NOTHING) -> list[Row]:
        """The rows that `statement` returns, which names its parameters as psycopg does. Raises `psycopg.Error`."""
        if self._lost is not None:
            raise self._lost
        if statement not in self._prepared:
            await self._prepare(statement)
        name, wanted = self._prepared[statement]
        values = [str(parameters[key]).encode(self._encoding) for key in wanted]
        self._libpq.send_query_prepared(name, values, result_format=pq.Format.BINARY)
        answer = await self._answer()
        if answer.ntuples == 0:
            return []
        self._rows.set_pgresult(answer)
        return self._rows.load_rows(0, answer.ntuples, tuple)

    async def _prepare(self, statement: str) -> None:
        wanted = list(dict.fromkeys(_PARAMETER.findall(statement)))
        text = _PARAMETER.sub(lambda found: f"${wanted.index(found[1]) + 1}", statement)
        name = f"aqueue_{len(self._prepared)}".encode()
        self._libpq.send_prepare(name, text.encode(self._encoding))
        await self._answer()
        self._prepared[statement] = name, wanted

    async def _answer(self) -> PGresult:
        """What the server says to what was sent."""
        await self._sent()
        answers = []
        while True:
            while self._libpq.is_busy():
                self._moved.clear()
                await self._moved.wait()
            answer = self._libpq.get_result()
            if answer is None:
                break
            answers.append(answer)
        answer = answers[0]
        if answer.status == pq.ExecStatus.FATAL_ERROR:
            said_by_server = answer.error_field(pq.DiagnosticField.SQLSTATE) is not None
            raise error_from_result(answer, self._encoding) if said_by_server or not self._lost else self._lost
        return answer

    async def _sent(self) -> None:
        """Return when the server, or the system, has taken all that was sent."""
        while self._libpq.flush():
            self._moved.clear()
            self._loop.add_writer(self._socket, self._moved.set)
            try:
                await self._moved.wait()
            finally:
                self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        """Take what has come."""
        try:
            self._libpq.consume_input()
        except psycopg.Error as error:  # what waits finds out, or what is asked next
            self._lost = error
            self._loop.remove_reader(self._socket)
        self._moved.set()
