"""The pool's server: it answers requests on a local socket that only its user can reach.

Every client is served by a task of its own, so that one that sends nonsense, stalls or vanishes costs nobody else
anything; what a client can make the pool hold in memory is bounded.
"""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

from aqueue.control.assembly import BatchAssembler
from aqueue.control.conversation import Event, ServerConversation
from aqueue.control.requests import Request, Wait
from aqueue.control.service import Service
from aqueue.errors import AqueueError, InvalidRequest, StoreError
from aqueue.system import is_same_user, open_control_socket

T = TypeVar("T")
_READ_SIZE = 1 << 16
_CLOSE_TIMEOUT = 2.0
"""Seconds in which a client must have read what it is owed when its connection closes."""


class Server:
    """Accepts clients for a pool until it is closed."""

    def __init__(self, path: Path, service: Service) -> None:
        self.path = path
        self._service = service
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.Task[None]] = set()
        """Those whose client is not owed an answer at the moment."""
        self._closing = False

    async def open(self) -> None:
        """Listen. Raises `StoreError`."""
        try:
            listener = open_control_socket(self.path)
        except OSError as error:
            raise StoreError(f"cannot listen at {self.path}: {error.strerror}") from error
        self._server = await asyncio.start_unix_server(self._accepted, sock=listener, backlog=512)

    async def close(self) -> None:
        """Give every client the answer that it is owed, close all connections, and remove the socket."""
        assert self._server is not None
        self.path.unlink(missing_ok=True)
        self._closing = True
        # Until here asyncio may have accepted a connection for which it makes a transport in its next turn: made
        # for a server that is closed already, it would fail and be left open.
        for listener in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        await asyncio.sleep(0)
        self._server.close()
        self._service.end_watches()
        for task in self._idle:
            task.cancel()
        if self._clients:
            _, slow = await asyncio.wait(self._clients, timeout=_CLOSE_TIMEOUT)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closing:  # accepted in the very moment in which the server closed
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            peer: socket.socket = writer.get_extra_info("socket")
            if is_same_user(peer):
                await self._serve(reader, writer)
        except ConnectionError:
            pass  # the client is gone
        except asyncio.CancelledError:
            pass  # the server closes: asyncio's stream server expects its tasks to end quietly
        finally:
            await _close(writer)
            self._clients.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client's requests, one after the other, until it leaves or the server closes."""
        conversation, batches = ServerConversation(), BatchAssembler()
        try:
            while not self._closing:
                event = conversation.next_event()
                if event is Event.NEED_DATA:
                    data = await self._while_idle(reader.read(_READ_SIZE))
                    if not data:
                        return
                    conversation.receive(data)
                elif isinstance(event, Event):
                    await _send(writer, conversation.greeting())
                else:
                    await self._answer(event, batches, conversation, writer)
        except InvalidRequest as error:
            await _send(writer, conversation.failure(error))

    async def _answer(
        self, message: Request, batches: BatchAssembler, conversation: ServerConversation, writer: asyncio.StreamWriter
    ) -> None:
        try:
            request = batches.add(message)
            if request is None:
                return
            sending = self._send_answer(request, conversation, writer)
            await (self._while_idle(sending) if isinstance(request, Wait) else sending)
        except AqueueError as error:
            await _send(writer, conversation.failure(error))
        else:
            await _send(writer, conversation.end_of_answer())

    async def _send_answer(
        self, request: Request, conversation: ServerConversation, writer: asyncio.StreamWriter
    ) -> None:
        async with contextlib.aclosing(self._service.answer(request)) as parts:
            async for part in parts:
                for data in conversation.answer(part):
                    await _send(writer, data)

    async def _while_idle(self, step: Coroutine[None, None, T]) -> T:
        """Await a step that may take for ever, and is given up when the server closes."""
        task = asyncio.current_task()
        assert task is not None
        self._idle.add(task)
        try:
            return await step
        finally:
            self._idle.discard(task)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection once its client has read what was sent, for which there is little time."""
    writer.close()
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await writer.wait_closed()
    except ConnectionError:
        pass
    except (TimeoutError, asyncio.CancelledError):
        writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
