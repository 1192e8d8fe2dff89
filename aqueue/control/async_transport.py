"""A connection to the running pool for coroutines: streams that drive a conversation."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path

from aqueue.control.conversation import ClientConversation, Event
from aqueue.control.requests import Part, Request
from aqueue.errors import PoolGone, StoreError
from aqueue.system import control_socket_path

_READ_SIZE = 1 << 18


class AsyncTransport:
    """An open connection: what `aqueue.control.transport.Transport` is for code that blocks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._conversation = ClientConversation()

    async def greet(self) -> None:
        """Exchange greetings. Raises `PoolGone` if the pool is just leaving, `InvalidRequest` if it is of another
        version."""
        self._writer.write(self._conversation.greeting())
        await self._next_event()

    async def send(self, requests: Iterable[Request]) -> None:
        """Send a request, or the parts of a batch."""
        with suppress(ConnectionError):  # the pool says why, if it can, in what it sent before
            for request in requests:
                for data in self._conversation.request(request):
                    self._writer.write(data)
                    await self._writer.drain()

    async def answer(self) -> AsyncIterator[Part]:
        """The parts of the answer. Raises the error that is the answer, and `PoolGone`."""
        while not isinstance(part := await self._next_event(), Event):
            yield part

    def close(self) -> None:
        self._writer.close()

    async def _next_event(self) -> Part | Event:
        while (event := self._conversation.next_event()) is Event.NEED_DATA:
            try:
                data = await self._reader.read(_READ_SIZE)
            except ConnectionError:
                data = b""
            self._conversation.receive(data)
        return event


async def connect(folder: Path) -> AsyncTransport | None:
    """A connection to the pool that serves the store in `folder`, greeted; None if none does, or it is just leaving.

    Raises `StoreError` if the pool cannot be reached, `InvalidRequest` if it is of another version.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(str(control_socket_path(folder)))
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise StoreError(f"cannot reach the pool of {folder}: {error.strerror or error}") from error
    transport = AsyncTransport(reader, writer)
    try:
        await transport.greet()
    except PoolGone:
        transport.close()
        return None
    except BaseException:
        transport.close()
        raise
    return transport
