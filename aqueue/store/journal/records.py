"""The journal's records: one JSON object a line, each of which names its kind in `type`.

The first line is the header, which names the format. A `job` is a job as it stands after a change: the last one for
an id counts. A `removal` forgets a job. A `batch` says that the next so many lines are jobs of which all or none
exist. A `sync` says nothing but what the first line of every write says too, in a field `synced` before all others:
how many bytes of the file were on stable storage when the write began. So whoever finds a line that cannot be read
can tell whether it was whole once (some line behind it says so), or was being written when the power went.

A new kind of record is a type here and a case in `aqueue.store.journal.contents`. Older formats are in
`aqueue.store.journal.legacy`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec

from aqueue.jobs.job import Job

FORMAT = 3


class Header(msgspec.Struct, frozen=True):
    """The first line, in every format. Sequence numbers below `next_seq` may have been used by jobs that are gone."""

    aqueue: int
    next_seq: int = 1


class Removal(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="removal"):
    """A job was removed. Its id is never used again."""

    id: str


class Batch(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="batch"):
    """The next `jobs` lines are jobs that count only when all of them are there."""

    jobs: Annotated[int, msgspec.Meta(ge=1)]


class Sync(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="sync"):
    """Nothing but how much was synced."""


Record = Job | Removal | Batch | Sync
Decode = Callable[[bytes], Record]

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
encode_lines: Callable[[Sequence[Record]], bytes] = _encoder.encode_lines
"""The records, each as a line."""
decode_header = msgspec.json.Decoder(Header).decode
_decoder = msgspec.json.Decoder(Record)
decode_record: Decode = _decoder.decode
"""The record in a line. Raises one of `aqueue.errors.UNREADABLE`."""
decode_records: Callable[[bytes], list[Record]] = _decoder.decode_lines
SYNC = encode(Sync()) + b"\n"
_SYNCED = re.compile(rb'\{"synced":(\d{1,18}),.*\}\n', re.DOTALL)


def with_synced(line: bytes, synced: int) -> bytes:
    """`line`, the first of a write, with how many bytes were synced when the write began."""
    return b"".join((b'{"synced":%d,' % synced, memoryview(line)[1:]))


def synced_before(line: bytes) -> int:
    """How many bytes were synced when this line was written, as far as it says so."""
    match = _SYNCED.fullmatch(line)
    return int(match[1]) if match else 0
