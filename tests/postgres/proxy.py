"""A TCP proxy between pools and their database: the network of the tests, which fails when it is told to."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

T = TypeVar("T")
_READY_FOR_QUERY = b"Z\x00\x00\x00\x05I"
"""What the server says when a transaction is over, and all of its answer was sent."""


class _Line:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.answer: bytes | None = None
        """What the server says, where the client is not to hear it."""

    def cut(self) -> None:
        for side in (self.client, self.server):
            side.transport.abort()


class Proxy:
    """Forwards connections to the server of `url`, in a thread of its own."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._path = parts.path
        self._folder = parse_qs(parts.query).get("host", [""])[0]
        self._host, self._server_port = parts.hostname or "localhost", parts.port or 5432
        self._lines: set[_Line] = set()
        self._clients = 0
        """Connections of clients, also those for which the one to the server is still being made."""
        self._open = asyncio.Event()
        self._refusing = False
        self._pattern = b""
        self._forward = True
        self.has_cut = threading.Event()
        """Set once the connection is cut that `cut_at` has asked for."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.port: int = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)

    @property
    def url(self) -> str:
        """The database, by way of this proxy."""
        return f"postgresql://postgres@127.0.0.1:{self.port}{self._path}"

    def cut(self) -> None:
        """Cut every connection. New ones are let through."""
        self._there(self._cut_all)

    def _cut_all(self) -> None:
        for line in tuple(self._lines):
            line.cut()

    def refuse(self) -> None:
        """Cut every connection, and refuse new ones until `mend`."""
        self._refusing = True
        self.cut()

    def swallow(self) -> None:
        """Go on to accept everything, and let nothing through in either direction until `mend`."""
        self._there(self._open.clear)

    def mend(self) -> None:
        """Be a good network again; what was swallowed is gone, with the connections it was on."""
        self._refusing = False
        if not self._there(self._open.is_set):
            self.cut()
            self._there(self._open.set)

    def cut_at(self, pattern: bytes, *, forward: bool = True) -> None:
        """Cut the next connection over which a client sends `pattern`: with `forward` once the server has done what
        it was asked, but before the client hears of it, else before the server hears of it."""
        self.has_cut.clear()
        self._pattern, self._forward = pattern, forward

    def rest(self) -> None:
        """Cut every connection, and return when nothing of them is left."""
        asyncio.run_coroutine_threadsafe(self._rest(), self._loop).result(5)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _there(self, step: Callable[[], T]) -> T:
        async def call() -> T:
            return step()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(5)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()

    async def _listen(self) -> int:
        self._open.set()
        self._door = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._door.sockets[0].getsockname()[1]
        return port

    async def _shut(self) -> None:
        self._door.close()
        await self._rest()

    async def _rest(self) -> None:
        self._open.set()
        while self._clients:
            for line in self._lines:
                line.cut()
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)  # a transport that was aborted closes its socket in the next turn

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            await self._serve(reader, writer)
        finally:
            self._clients -= 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            answers, server = await (
                asyncio.open_unix_connection(f"{self._folder}/.s.PGSQL.5432")
                if self._folder
                else asyncio.open_connection(self._host, self._server_port)
            )
        except OSError:
            writer.transport.abort()
            return
        line = _Line(writer, server)
        self._lines.add(line)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward_questions(line, reader))
                both.create_task(self._forward_answers(line, answers))
        finally:
            line.cut()
            self._lines.discard(line)

    async def _forward_questions(self, line: _Line, reader: asyncio.StreamReader) -> None:
        while data := await _some(reader):
            await self._open.wait()
            if self._pattern and self._pattern in data:
                self._pattern = b""
                if not self._forward:
                    break
                line.answer = b""
            line.server.write(data)
        line.cut()
        self.has_cut.set()

    async def _forward_answers(self, line: _Line, answers: asyncio.StreamReader) -> None:
        while data := await _some(answers):
            await self._open.wait()
            if line.answer is None:
                line.client.write(data)
                continue
            line.answer += data
            if line.answer.endswith(_READY_FOR_QUERY):
                break
        line.cut()


async def _some(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1 << 16)
    except ConnectionError:
        return b""
