"""The conversation between a client and a pool, without I/O: bytes in, events out, and the bytes to send.

Whoever owns a connection, blocking or not, drives one of these: it sends what the conversation returns and feeds it
what it receives. (The idea is that of h11, see sans-io.readthedocs.io.) Both sides greet each other with `Hello` first.
Then the client sends requests; the answer to each is any number of parts and then `Done`, or `Failed`.
"""

from collections.abc import Iterator
from enum import Enum, auto
from functools import cache

import msgspec

from aqueue.control.batches import cut_reply, encode_request
from aqueue.control.framing import MAX_REQUEST, FrameReader, encode
from aqueue.control.requests import PROTOCOL, Done, Failed, Hello, Part, Reply, Request
from aqueue.errors import BY_KIND, UNREADABLE, AqueueError, InvalidRequest, PoolGone

# Each side makes the decoder that it needs, once: a short command pays for everything that is made at import.


@cache
def _reply_decoder() -> "msgspec.json.Decoder[Reply]":
    return msgspec.json.Decoder(Reply)


@cache
def _request_decoder() -> "msgspec.json.Decoder[Request | Hello]":
    return msgspec.json.Decoder(Request | Hello)


class Event(Enum):
    """What a conversation has come to, where that is no message."""

    NEED_DATA = auto()
    """Nothing more can be said before more bytes are received."""
    GREETED = auto()
    """The server answers, and speaks the same version of the protocol."""
    END_OF_ANSWER = auto()
    """The answer to a request is complete."""


class ClientConversation:
    """The client's side."""

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._greeted = False
        self._closed = False
        self.answering = False
        """Whether the answer to a request has not come to its end yet: until then no other request can be sent."""

    def greeting(self) -> bytes:
        """The bytes with which the conversation begins."""
        return encode(Hello())

    def request(self, request: Request) -> Iterator[bytes]:
        """The bytes of a request, in one or several messages."""
        self.answering = True
        return encode_request(request)

    def receive(self, data: bytes) -> None:
        """Take bytes that came from the server; none at all means that it has closed the connection."""
        self._frames.feed(data)
        self._closed = self._closed or not data

    def next_event(self) -> Part | Event:
        """The next part of an answer, or what has happened instead.

        Raises the error with which the pool answered; `PoolGone` where the connection ended before an answer did;
        `InvalidRequest` where the server speaks another version of the protocol, or none.
        """
        data = self._frames.next()
        if data is None:
            if self._closed:
                raise PoolGone("the pool went away before it answered")
            return Event.NEED_DATA
        try:
            reply = _reply_decoder().decode(data)
        except UNREADABLE as error:
            raise InvalidRequest(f"the pool's answer cannot be read: {error}") from None
        if isinstance(reply, Failed):
            self.answering = False
            raise BY_KIND.get(reply.kind, AqueueError)(reply.message)
        if not self._greeted:
            _check_greeting(reply, "the pool", "this program")
            self._greeted = True
            return Event.GREETED
        if isinstance(reply, Hello):
            raise InvalidRequest("the pool's answer cannot be read: a second greeting")
        if isinstance(reply, Done):
            self.answering = False
            return Event.END_OF_ANSWER
        return reply


class ServerConversation:
    """The server's side. The client may be anybody: what it sends is limited, and not trusted."""

    def __init__(self) -> None:
        self._frames = FrameReader(MAX_REQUEST)
        self._greeted = False

    def receive(self, data: bytes) -> None:
        """Take bytes that came from the client."""
        self._frames.feed(data)

    def next_event(self) -> Request | Event:
        """The next request, or what has happened instead: `GREETED` is to be answered by `greeting`.

        Raises `InvalidRequest` for what is no message, a greeting in the wrong place, or another version of the
        protocol; after that nothing more can be received.
        """
        data = self._frames.next()
        if data is None:
            return Event.NEED_DATA
        try:
            request = _request_decoder().decode(data)
        except UNREADABLE as error:
            raise InvalidRequest(f"not a request: {error}") from None
        if not self._greeted:
            _check_greeting(request, "the client", "the pool")
            self._greeted = True
            return Event.GREETED
        if isinstance(request, Hello):
            raise InvalidRequest("not a request: a second greeting")
        return request

    def greeting(self) -> bytes:
        """The bytes that answer a greeting."""
        return encode(Hello())

    def answer(self, part: Part) -> Iterator[bytes]:
        """The bytes of a part of an answer, in one or several messages."""
        return map(encode, cut_reply(part))

    def end_of_answer(self) -> bytes:
        """The bytes that end an answer."""
        return encode(Done())

    def failure(self, error: AqueueError) -> bytes:
        """The bytes that end an answer by an error."""
        return encode(Failed(error.kind, str(error)))


def _check_greeting(message: object, sender: str, receiver: str) -> None:
    if not isinstance(message, Hello):
        raise InvalidRequest(f"the first message of {sender} was no greeting")
    if message.protocol != PROTOCOL:
        raise InvalidRequest(
            f"{sender} speaks version {message.protocol} of the protocol and {receiver} version {PROTOCOL}:"
            " use the same version of aqueue for both"
        )
