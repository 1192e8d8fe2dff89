"""How messages travel: a length of four bytes (big-endian), then one JSON object. Both sides say `Hello` first."""

import struct
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from aqueue.control.requests import PROTOCOL, Enqueue, Failed, Hello, Import, Reply, Request
from aqueue.errors import BY_KIND, UNREADABLE, AqueueError, InvalidRequest

LENGTH = struct.Struct(">I")
LONGEST = 2 << 20
"""The longest request in bytes; longer batches come in parts. Answers are cut into parts of this order too."""

_encode = msgspec.json.Encoder().encode
_requests: msgspec.json.Decoder[Request | Hello] = msgspec.json.Decoder(Request | Hello)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def pack(message: Request | Reply) -> bytes:
    """The bytes of a message."""
    data = _encode(message)
    return LENGTH.pack(len(data)) + data


def pack_parts(request: Request) -> Iterator[bytes]:
    """The bytes of a request; a batch that is too long for one message is sent in parts."""
    data = pack(request)
    batch = {Enqueue: "specs", Import: "jobs"}.get(type(request))
    jobs = getattr(request, batch) if batch else []
    if batch is None or len(data) <= LONGEST or len(jobs) < 2:
        yield data
        return
    half = len(jobs) // 2
    yield from pack_parts(replace(request, **{batch: jobs[:half], "more": True}))
    yield from pack_parts(replace(request, **{batch: jobs[half:]}))


def unpack_request(data: bytes) -> Request | Hello:
    """The request in `data`. Raises `InvalidRequest`."""
    try:
        return _requests.decode(data)
    except UNREADABLE as error:
        raise InvalidRequest(f"not a request: {error}") from None


def unpack_reply(data: bytes) -> Reply:
    """The reply in `data`. Raises `InvalidRequest`."""
    try:
        return _replies.decode(data)
    except UNREADABLE as error:
        raise InvalidRequest(f"the pool's answer cannot be read: {error}") from None


def failed(error: AqueueError) -> Failed:
    """An error as it travels."""
    return Failed(error.kind, str(error))


def raised(reply: Failed) -> AqueueError:
    """The error that a reply stands for."""
    return BY_KIND.get(reply.kind, AqueueError)(reply.message)


def check_hello(message: object) -> None:
    """Raise `InvalidRequest` unless the other side speaks our version."""
    if not isinstance(message, Hello):
        raise InvalidRequest("the first message was no greeting")
    if message.protocol != PROTOCOL:
        raise InvalidRequest(
            f"the other side speaks version {message.protocol} and this one {PROTOCOL}: use the same aqueue for both"
        )
