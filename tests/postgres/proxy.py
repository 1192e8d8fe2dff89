"""A TCP proxy between pools and their database: a network that fails on demand."""

import asyncio
import re
import threading
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

from aqueue.store.postgres import statements

T = TypeVar("T")
CLAIM, SETTLE, RETURN = "pool AS MATERIALIZED", "new (settled_token", "unclaimed (token"
"""What only the statements contain that claim, settle and return jobs: for `Proxy.cut_at`."""
for _part, _statement in ((CLAIM, statements.CLAIM), (SETTLE, statements.SETTLE), (RETURN, statements.RETURN)):
    assert _part in _statement.text
_PARSE = re.compile(rb"P.{4}(aqueue_\d+)\0([^\0]*)\0", re.DOTALL)
"""The message that prepares a statement: its name and its text."""
_BIND = re.compile(rb"B.{4}\0(aqueue_\d+)\0", re.DOTALL)
"""The message that executes a prepared statement, with its name."""
_READY_FOR_QUERY = b"Z\x00\x00\x00\x05I"
"""What the server sends when a transaction is over, after all else."""


class _Relay:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.prepared: dict[bytes, bytes] = {}
        """The texts of the statements that the client has prepared, by name."""
        self.withheld: bytes | None = None
        """What the server has responded, where the client is not to get it."""

    def executes(self, data: bytes, part: bytes) -> bool:
        """Whether the client sends, with `data`, the execution of a prepared statement whose text contains `part`."""
        self.prepared.update(_PARSE.findall(data))
        return any(part in self.prepared.get(name, b"") for name in _BIND.findall(data))

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
        self._relays: set[_Relay] = set()
        self._clients = 0
        """Connections of clients, also those for which the one to the server is still being made."""
        self._open = asyncio.Event()
        self._refusing = False
        self._part = b""
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
        self._call(self._cut_all)

    def _cut_all(self) -> None:
        for relay in tuple(self._relays):
            relay.cut()

    def refuse(self) -> None:
        """Cut every connection, and refuse new ones until `mend`."""
        self._refusing = True
        self.cut()

    def swallow(self) -> None:
        """Go on to accept everything, and let nothing through in either direction until `mend`."""
        self._call(self._open.clear)

    def mend(self) -> None:
        """Be a good network again; what was swallowed is gone, with the connections it was on."""
        self._refusing = False
        if not self._call(self._open.is_set):
            self.cut()
            self._call(self._open.set)

    def cut_at(self, part: str, *, forward: bool = True) -> None:
        """Cut the next connection over which a client executes a prepared statement whose text contains `part`: with
        `forward` once the server has executed it, but before the client gets the response, else before the server
        gets the request."""
        self.has_cut.clear()
        self._part, self._forward = part.encode(), forward

    def close_connections(self) -> None:
        """Cut every connection, and return when nothing of them is left."""
        asyncio.run_coroutine_threadsafe(self._close_connections(), self._loop).result(5)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _call(self, step: Callable[[], T]) -> T:
        async def call() -> T:
            return step()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(5)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()

    async def _listen(self) -> int:
        self._open.set()
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def _shut(self) -> None:
        self._listener.close()
        await self._close_connections()

    async def _close_connections(self) -> None:
        self._open.set()
        while self._clients:
            for relay in self._relays:
                relay.cut()
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
            responses, server = await (
                asyncio.open_unix_connection(f"{self._folder}/.s.PGSQL.5432")
                if self._folder
                else asyncio.open_connection(self._host, self._server_port)
            )
        except OSError:
            writer.transport.abort()
            return
        relay = _Relay(writer, server)
        self._relays.add(relay)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward_requests(relay, reader))
                both.create_task(self._forward_responses(relay, responses))
        finally:
            relay.cut()
            self._relays.discard(relay)

    async def _forward_requests(self, relay: _Relay, reader: asyncio.StreamReader) -> None:
        is_to_be_cut = False
        while data := await _some(reader):
            await self._open.wait()
            if relay.executes(data, self._part) and self._part:
                is_to_be_cut, self._part = True, b""
                if not self._forward:
                    break
                relay.withheld = b""
            relay.server.write(data)
        relay.cut()
        if is_to_be_cut:
            self.has_cut.set()

    async def _forward_responses(self, relay: _Relay, responses: asyncio.StreamReader) -> None:
        while data := await _some(responses):
            await self._open.wait()
            if relay.withheld is None:
                relay.client.write(data)
                continue
            relay.withheld += data
            if relay.withheld.endswith(_READY_FOR_QUERY):
                break
        relay.cut()


async def _some(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1 << 16)
    except ConnectionError:
        return b""
