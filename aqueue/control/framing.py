"""Messages as bytes: a length of four bytes (big-endian), then one JSON object."""

import struct

import msgspec

from aqueue.errors import InvalidRequest

MAX_REQUEST = 2 << 20
"""How many bytes one message to the server may have; longer batches come in several."""

_LENGTH = struct.Struct(">I")
_encode = msgspec.json.Encoder().encode


def encode(message: msgspec.Struct) -> bytes:
    """The bytes of a message."""
    data = _encode(message)
    return _LENGTH.pack(len(data)) + data


class FrameReader:
    """Cuts a stream of bytes into the JSON texts of its messages."""

    def __init__(self, longest: int | None = None) -> None:
        """`longest` is how many bytes a message may have, None for no limit."""
        self._longest = longest
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes as they came."""
        self._buffer += data

    def next(self) -> bytearray | None:
        """The next message; None until more bytes have come.

        Raises `InvalidRequest` for one that is too long, as soon as its length is known.
        """
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if self._longest is not None and length > self._longest:
            raise InvalidRequest(f"a message of {length} bytes is too long: {self._longest} are allowed")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        message = self._buffer[_LENGTH.size : end]
        del self._buffer[:end]
        return message
