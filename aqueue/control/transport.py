"""A connection to the running pool for code that blocks: a socket that drives a conversation."""

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from aqueue.control.conversation import ClientConversation, Event
from aqueue.control.requests import Part, Request
from aqueue.errors import PoolGone, StoreError
from aqueue.system import connect_control_socket, control_socket_path

_READ_SIZE = 1 << 18


class Transport:
    """An open connection. What takes longer than its deadline raises `TimeoutError`."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._deadline: float | None = None
        self._conversation = ClientConversation()

    def set_deadline(self, deadline: float | None) -> None:
        """What is sent and received from now on has until `deadline`, by `time.monotonic`."""
        self._deadline = deadline
        self._socket.settimeout(None)

    @property
    def answering(self) -> bool:
        """Whether the answer to a request has not come to its end yet."""
        return self._conversation.answering

    def greet(self) -> None:
        """Exchange greetings. Raises `PoolGone` if the pool is just leaving, `InvalidRequest` if it is of another
        version."""
        with suppress(ConnectionError):  # what the pool sent before can still be read
            self._send(self._conversation.greeting())
        self._next_event()

    def send(self, requests: Iterable[Request]) -> None:
        """Send a request, or the parts of a batch."""
        with suppress(ConnectionError):  # the pool says why, if it can, in what it sent before
            for request in requests:
                for data in self._conversation.request(request):
                    self._send(data)

    def answer(self) -> Iterator[Part]:
        """The parts of the answer. Raises the error that is the answer, and `PoolGone`."""
        while not isinstance(part := self._next_event(), Event):
            yield part

    def wait_closed(self) -> None:
        """Return once the pool has closed the connection."""
        with suppress(ConnectionError):
            while self._receive():
                pass

    def close(self) -> None:
        self._socket.close()

    def _next_event(self) -> Part | Event:
        while (event := self._conversation.next_event()) is Event.NEED_DATA:
            try:
                data = self._receive()
            except ConnectionError:
                data = b""
            self._conversation.receive(data)
        return event

    def _send(self, data: bytes) -> None:
        self._limit_time()
        self._socket.sendall(data)

    def _receive(self) -> bytes:
        self._limit_time()
        return self._socket.recv(_READ_SIZE)

    def _limit_time(self) -> None:
        if self._deadline is not None:
            self._socket.settimeout(max(0.001, self._deadline - time.monotonic()))


def connect(folder: Path, deadline: float | None = None) -> Transport | None:
    """A connection to the pool that serves the store in `folder`, greeted; None if none does, or it is just leaving.

    Raises `StoreError` if the pool cannot be reached, `InvalidRequest` if it is of another version, `TimeoutError`.
    """
    try:
        connected = connect_control_socket(control_socket_path(folder))
    except OSError as error:
        raise StoreError(f"cannot reach the pool of {folder}: {error.strerror or error}") from error
    if connected is None:
        return None
    transport = Transport(connected)
    transport.set_deadline(deadline)
    try:
        transport.greet()
    except PoolGone:
        transport.close()
        return None
    except BaseException:
        transport.close()
        raise
    return transport
