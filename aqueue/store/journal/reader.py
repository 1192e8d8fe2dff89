"""Reading a journal: every whole line, up to where a power cut has torn the end; anything else is refused.

A power cut can take any part of what was written since the last sync: the end may be missing, zeroed or garbled,
and so may a page in front of others. What cannot be read and was never synced, as far as the lines behind it say,
does not count, nor does what follows. What was synced is damage that no crash explains: it is
refused with the line's number, and nothing is changed. (In a journal of format 1 any good line behind says so.)
"""

import os
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from aqueue.errors import UNREADABLE, DamagedStore
from aqueue.jobs.job import Job
from aqueue.store.journal.contents import Contents
from aqueue.store.journal.legacy import decoder, says_what_was_synced
from aqueue.store.journal.records import (
    FORMAT,
    Batch,
    Decode,
    Header,
    Record,
    Sync,
    decode_header,
    decode_record,
    decode_records,
    encode,
    synced_before,
)

_BLOCK = 1 << 18
"""How many bytes are read at a time."""


def read_journal(fd: int, path: Path) -> Contents:
    """What the journal holds; a torn tail is behind the `end` of that. Raises `DamagedStore` if it is not whole."""
    return _Reader(fd, path).read()


def is_good(line: bytes, decode: Decode) -> bool:
    """Whether a line behind the first one is whole, says something, and can be read."""
    if not line.endswith(b"\n") or not line.strip():
        return False
    try:
        decode(line)
    except UNREADABLE:
        return False
    return True


class _Unreadable(Exception):
    """A line is not as it should be: what is wrong with which one, and where it begins."""

    def __init__(self, problem: str, offset: int) -> None:
        self.problem = problem
        self.offset = offset


class _Reader:
    """Reads a journal's lines in order, many at a time where each can be read."""

    def __init__(self, fd: int, path: Path) -> None:
        self.fd = fd
        self.path = path
        self.contents = Contents()
        self.decode: Decode = decode_record
        self.batch: list[tuple[Job, int]] = []
        """Jobs of a batch, and where their lines begin: they wait for the rest of it."""
        self.missing = 0
        """How many jobs the batch lacks."""
        self.head_of_batch = ""
        """Which line begins it."""

    def read(self) -> Contents:
        contents, end = self.contents, 0
        try:
            for start, block in self._blocks(0):
                offset, end = start, start + len(block)
                if contents.lines == 0:
                    block = self._read_header(block)
                    offset = contents.end = end - len(block)
                if not self._read_block(block, offset):
                    self._read_lines(block, offset)
            if self.missing:
                problem = f"{self.missing} of the lines that belong together are missing"
                raise _Unreadable(f"{self.head_of_batch}: {problem}", end)
        except _Unreadable as wrong:
            self._refuse_damage(wrong)
        return contents

    def _refuse_damage(self, wrong: _Unreadable) -> None:
        """Raise `DamagedStore` if what is not whole was so once, as a line behind it says."""
        whole = self.contents.end  # lines that a compaction moved name other places, but all of them were synced then
        version = self.contents.format
        for offset, block in self._blocks(whole):
            for line in _lines(block):
                if says_what_was_synced(version):
                    was_whole = synced_before(line) > whole
                else:
                    was_whole = offset > wrong.offset and is_good(line, self.decode)
                if was_whole:
                    raise DamagedStore(
                        f"{self.path}, {wrong.problem}, and that was on the disk once: nothing was changed; "
                        "restore the line, or see: aqueue doctor"
                    )
                offset += len(line)

    def _blocks(self, offset: int) -> Iterator[tuple[int, bytes]]:
        """Blocks of whole lines from `offset` on, and where they begin; the last one may lack its newline."""
        kept = b""
        while data := os.pread(self.fd, _BLOCK, offset + len(kept)):
            whole, newline, rest = data.rpartition(b"\n")
            if newline:
                block = kept + whole + newline
                yield offset, block
                offset, kept = offset + len(block), rest
            else:
                kept += data
        if kept:
            yield offset, kept

    def _read_header(self, block: bytes) -> bytes:
        """Read the first line of the first block; return what follows."""
        line, newline, rest = block.partition(b"\n")
        if not newline and encode(Header(FORMAT)).startswith(line[:10]):
            return block  # the very first write was cut off
        try:
            header = decode_header(line)
        except UNREADABLE:
            raise DamagedStore(f"{self.path} is not an aqueue journal: line 1 does not name its format") from None
        if header.aqueue > FORMAT:
            raise DamagedStore(
                f"{self.path} has format {header.aqueue}, from a newer aqueue; this one reads up to {FORMAT}: upgrade"
            )
        self.contents.format = header.aqueue
        self.decode = decoder(header.aqueue)
        self.contents.next_seq = header.next_seq
        self.contents.lines = 1
        return rest

    def _read_block(self, block: bytes, offset: int) -> bool:
        """Read a block all of whose lines are records; False if it has others, and then nothing of it was read."""
        if self.contents.format != FORMAT or not block.endswith(b"\n"):
            return False
        try:
            records = decode_records(block)
        except UNREADABLE:
            return False
        lengths = [len(line) + 1 for line in block.split(b"\n")]
        if len(records) != len(lengths) - 1:  # blank lines are among them
            return False
        apply, starts = self.contents.apply, accumulate(lengths, initial=offset)
        if not self.missing and Batch not in set(map(type, records)):
            for record, start in zip(records, starts, strict=False):
                apply(record, start)
        else:
            for number, (record, start) in enumerate(zip(records, starts, strict=False), self.contents.lines + 1):
                self._frame(record, number, start)
        self.contents.lines += len(records)
        self._mark_whole(offset + len(block))
        return True

    def _read_lines(self, block: bytes, offset: int) -> None:
        """Read the lines of a block one by one. Raises `_Unreadable`."""
        for line in _lines(block):
            number = self.contents.lines + 1
            where = f"line {number} (byte {offset})"
            if not line.endswith(b"\n"):
                raise _Unreadable(f"{where}: it has no end", offset)
            if line.strip():
                try:
                    record = self.decode(line)
                except UNREADABLE as error:
                    raise _Unreadable(f"{where}: {error}", offset) from None
                self._frame(record, number, offset)
            self.contents.lines = number
            offset += len(line)
            self._mark_whole(offset)

    def _frame(self, record: Record, number: int, offset: int) -> None:
        """Apply a record, or keep it back until its batch is complete. Raises `_Unreadable`."""
        if isinstance(record, Sync):
            return
        if not self.missing:
            if isinstance(record, Batch):
                self._mark_whole(offset)
                self.missing = record.jobs
                self.head_of_batch = f"line {number} (byte {offset})"
            else:
                self.contents.apply(record, offset)
        elif isinstance(record, Job):
            self.batch.append((record, offset))
            self.missing -= 1
            if not self.missing:
                for job, start in self.batch:
                    self.contents.apply(job, start)
                self.batch.clear()
        else:
            where = f"line {number} (byte {offset})"
            raise _Unreadable(
                f"{where}: {self.missing} more jobs should be before it, for {self.head_of_batch}", offset
            )

    def _mark_whole(self, end: int) -> None:
        """What ends at `end` is whole, unless it is part of a batch whose rest is missing."""
        if not self.missing:
            self.contents.end = end


def _lines(block: bytes) -> Iterator[bytes]:
    """The lines of a block with their newlines. (`splitlines` would also split at a carriage return.)"""
    start = 0
    while start < len(block):
        end = block.find(b"\n", start) + 1 or len(block)
        yield block[start:end]
        start = end
