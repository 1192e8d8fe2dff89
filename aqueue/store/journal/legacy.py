"""Formats 1 and 2, in which today's program finds the journals of its predecessors.

No line names its kind there: a job is a job, `{"removed": id}` is a removal, `{"together": n}` the head of a batch or,
with n = 0, nothing. In format 1 no line says what was synced. Both are only read: the first change rewrites the file.
"""

import contextlib

import msgspec

from aqueue.errors import UNREADABLE
from aqueue.jobs.job import Job
from aqueue.store.journal.interning import Interner
from aqueue.store.journal.records import FORMAT, Batch, Decode, Record, Removal, Sync, decode_record, encode


class _Removed(msgspec.Struct):
    removed: str


class _Together(msgspec.Struct):
    together: int


_decode_job = msgspec.json.Decoder(Job).decode
_decode_removed = msgspec.json.Decoder(_Removed).decode
_decode_together = msgspec.json.Decoder(_Together).decode


def says_what_was_synced(version: int) -> bool:
    """Whether the writes of a journal of this format say how much was synced when they began."""
    return version > 1


def decoder(version: int | None) -> Decode:
    """What decodes a line of this format, or of any if None is known."""
    if version is None:
        return _decode_any
    return decode_record if version == FORMAT else _decode_legacy


def upgraded(line: bytes, version: int | None) -> bytes:
    """A line of this format (of any if None is known) as today's program writes it, without its newline. Raises one of
    `aqueue.errors.UNREADABLE`."""
    record = decoder(version)(line)
    if isinstance(record, Job):
        Interner().intern(record)  # leaves out what is a default
    return encode(record)


def _decode_legacy(line: bytes) -> Record:
    try:
        return _decode_job(line)
    except UNREADABLE:
        with contextlib.suppress(*UNREADABLE):
            return Removal(_decode_removed(line).removed)
        with contextlib.suppress(*UNREADABLE):
            count = _decode_together(line).together
            return Batch(count) if count > 0 else Sync()
        raise


def _decode_any(line: bytes) -> Record:
    try:
        return decode_record(line)
    except UNREADABLE:
        return _decode_legacy(line)
