"""The running pool's door: a local socket that only its user reaches.

Every connection is served by a task of its own, so that one that sends nonsense, stalls or vanishes costs nobody
else anything; what it can make the pool hold in memory is bounded.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

from aqueue.control import wire
from aqueue.control.requests import Done, Hello, Jobs, Reply, Request, Wait, Watch
from aqueue.control.service import Session
from aqueue.errors import AqueueError, InvalidRequest, StoreError
from aqueue.system import platform

T = TypeVar("T")
_PART = 500
"""Jobs in one message."""
_GOODBYE = 2.0
"""Seconds in which an asker must have read what it is owed when the door, or its connection, closes."""


class Server:
    """Accepts connections for a pool until it is closed."""

    def __init__(self, path: Path, session: Callable[[], Session]) -> None:
        self.path = path
        self._session = session
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        """Those whose asker is not owed an answer yet."""
        self._closing = False

    async def open(self) -> None:
        """Listen. Raises `StoreError`."""
        try:
            door = platform.listen(self.path)
        except OSError as error:
            raise StoreError(f"cannot listen at {self.path}: {error.strerror}") from error
        self._server = await asyncio.start_unix_server(self._connected, sock=door, backlog=512)

    async def close(self) -> None:
        """Let everybody go, and remove the socket."""
        assert self._server is not None
        self.path.unlink(missing_ok=True)
        self._closing = True
        # Until here asyncio may have accepted a connection for which it makes a transport in its next turn: made
        # for a server that is closed already, it would fail and be left open.
        for door in self._server.sockets:
            asyncio.get_running_loop().remove_reader(door.fileno())
        await asyncio.sleep(0)
        self._server.close()
        for task in self._waiting:
            task.cancel()
        if self._connections:
            _, slow = await asyncio.wait(self._connections, timeout=_GOODBYE)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closing:  # accepted in the very moment in which the door closed
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            line: socket.socket = writer.get_extra_info("socket")
            if platform.same_user(line):
                await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the asker is gone
        except asyncio.CancelledError:
            pass  # the door closes: asyncio's stream server expects its tasks to end quietly
        finally:
            await _hang_up(writer)
            self._connections.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = self._session()
        try:
            wire.check_hello(wire.unpack_request(await self._patiently(_read(reader))))
            await _send(writer, Hello())
            while not self._closing:
                request = wire.unpack_request(await self._patiently(_read(reader)))
                if isinstance(request, Hello):
                    raise InvalidRequest("a second greeting")
                answering = self._answer(session, request, writer)
                await (self._patiently(answering) if isinstance(request, Wait | Watch) else answering)
        except InvalidRequest as error:
            await _send(writer, wire.failed(error))

    async def _patiently(self, step: Coroutine[None, None, T]) -> T:
        """A step that may take for ever, and is given up when the door closes."""
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            return await step
        finally:
            self._waiting.discard(task)

    async def _answer(self, session: Session, request: Request, writer: asyncio.StreamWriter) -> None:
        try:
            if session.hold(request):
                return
            async with contextlib.aclosing(session.answer(request)) as parts:
                async for part in parts:
                    if isinstance(part, Jobs):
                        for start in range(0, len(part.jobs), _PART):
                            await _send(writer, Jobs(part.jobs[start : start + _PART]))
                    else:
                        await _send(writer, part)
        except AqueueError as error:
            await _send(writer, wire.failed(error))
        else:
            await _send(writer, Done())


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection once its asker has read what was sent, for which there is little time."""
    writer.close()
    try:
        async with asyncio.timeout(_GOODBYE):
            await writer.wait_closed()
    except ConnectionError:
        pass
    except (TimeoutError, asyncio.CancelledError):
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> bytes:
    (length,) = wire.LENGTH.unpack(await reader.readexactly(wire.LENGTH.size))
    if length > wire.LONGEST:
        raise InvalidRequest(f"a message of {length} bytes is too long: {wire.LONGEST} are allowed")
    return await reader.readexactly(length)


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    writer.write(wire.pack(reply))
    await writer.drain()
