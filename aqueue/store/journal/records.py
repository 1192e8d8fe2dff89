"""What the lines of a journal are.

The first one names the format. A job's line is the job as it stands after a change; `{"removed": id}` forgets one,
and `{"together": n}` says that the next n lines hold all or none of them. The first line of every write begins
with `"synced"`: how many bytes of the file were on stable storage by then. So whoever finds a line that cannot be
read can tell whether it was whole once (some line behind it says so), or was being written when the power went.
"""

import contextlib
import re
from collections.abc import Sequence

import msgspec

from aqueue.errors import UNREADABLE
from aqueue.jobs.job import Job

FORMAT = 2
"""In format 1 no line says what was synced."""


class Header(msgspec.Struct, frozen=True):
    """The first line. `next_seq`: sequence numbers below it may have been used by jobs that are gone."""

    aqueue: int
    next_seq: int = 1


class Removed(msgspec.Struct, frozen=True):
    """A line that forgets a job."""

    removed: str


class Together(msgspec.Struct, frozen=True):
    """A line before `together` lines that count only when all of them are there."""

    together: int


encode = msgspec.json.Encoder().encode
decode_header = msgspec.json.Decoder(Header).decode
decode_job = msgspec.json.Decoder(Job).decode
decode_jobs = msgspec.json.Decoder(Job).decode_lines
_specials = (msgspec.json.Decoder(Removed).decode, msgspec.json.Decoder(Together).decode)
NOTHING = encode(Together(0)) + b"\n"
"""A line that says nothing but what its write says."""
_SEAL = re.compile(rb'^\{"synced":\d+,"together":0\}\n', re.MULTILINE)
_SYNCED = re.compile(rb'\{"synced":(\d{1,18}),.*\}\n', re.DOTALL)


def with_synced(parts: Sequence[bytes], synced: int) -> bytes:
    """One write of all `parts`, which are whole lines, that says how much was synced when it began."""
    return b"".join([b'{"synced":%d,' % synced, memoryview(parts[0])[1:], *parts[1:]])


def without_seals(block: bytes) -> bytes:
    """The lines without those that say nothing else than how much was synced."""
    return _SEAL.sub(b"", block) if b'"together":0}' in block else block


def synced_before(line: bytes) -> int:
    """How many bytes were synced when this line was written, as far as it says so."""
    match = _SYNCED.fullmatch(line)
    return int(match[1]) if match else 0


def decode_special(line: bytes) -> Removed | Together | None:
    """What a line says that is no job's; None if it cannot be read. An empty line says nothing."""
    if not line.strip():
        return Together(0)
    for decode in _specials:
        with contextlib.suppress(*UNREADABLE):
            return decode(line)
    return None


def is_good(line: bytes) -> bool:
    """Whether a line behind the first one is whole, says something, and can be read."""
    if not line.endswith(b"\n") or not line.strip():
        return False
    try:
        decode_job(line)
    except UNREADABLE:
        return decode_special(line) is not None
    return True
