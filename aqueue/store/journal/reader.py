"""Reading a journal back: every whole line, up to where a power cut has torn the end; anything else is refused.

A power cut can take any part of what was written since the last sync: the end may be missing, zeroed or garbled,
and so may a page in front of others. What cannot be read and was never synced, as far as the lines behind it tell,
does not count, nor does what follows. What was synced is damage that no crash explains: it is
refused with the line's number, and nothing is changed. (In a journal of format 1 any good line behind tells so.)
"""

import os
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import force_setattr

from aqueue.errors import UNREADABLE, DamagedStore
from aqueue.jobs.job import Job
from aqueue.store.journal.records import (
    FORMAT,
    Header,
    Removed,
    Together,
    decode_header,
    decode_job,
    decode_jobs,
    decode_special,
    encode,
    is_good,
    synced_before,
    without_seals,
)

_CHUNK = 1 << 18


class Contents:
    """What a journal holds, as read by `load`."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.removed: set[str] = set()
        self.outputs: dict[int, int] = {}
        """Where the line with a job's output begins, by sequence number."""
        self.next_seq = 1
        self.lines = 0
        self.end = 0
        """The length in bytes of what is whole."""
        self.torn: Path | None = None
        """Where a torn tail was put, if there was one."""
        self._shared: dict[str, str] = {}

    def apply(self, job: Job, offset: int) -> None:
        """Take in a job's line, which begins at `offset`. What it printed stays in the file."""
        if job.stdout or job.stderr:
            self.outputs[job.seq] = offset
        else:
            self.outputs.pop(job.seq, None)
        for name in ("stdout", "stderr"):
            force_setattr(job, name, None)
        share = self._shared.setdefault  # a million jobs have few queues and directories between them
        force_setattr(job, "queue", share(job.queue, job.queue))
        if job.cwd is not None:
            force_setattr(job, "cwd", share(job.cwd, job.cwd))
        self.jobs[job.id] = job
        if job.seq >= self.next_seq:
            self.next_seq = job.seq + 1

    def forget(self, name: str) -> None:
        """Take in that a job was removed."""
        job = self.jobs.pop(name, None)
        if job is not None:
            self.outputs.pop(job.seq, None)
        self.removed.add(name)


def read_journal(fd: int, path: Path) -> Contents:
    """What the journal holds; a torn tail is behind the `end` of that. Raises `DamagedStore` if it is not whole."""
    return _Reader(fd, path).read()


class _Reader:
    """Reads a journal's lines in order, many at a time where nothing is special about them."""

    def __init__(self, fd: int, path: Path) -> None:
        self.fd = fd
        self.path = path
        self.contents = Contents()
        self.format = FORMAT
        self.batch: list[tuple[Job, int]] = []
        """Lines that wait for the rest of theirs."""
        self.missing = 0
        self.start_of_batch = ""
        """Which line says that others belong together."""
        self.wrong: tuple[str, int] | None = None
        """What is wrong with the first line that is not as it should be, and the offset of that line."""

    def read(self) -> Contents:
        contents = self.contents
        for offset, block in self._blocks(0):
            if contents.lines == 0:
                rest = self._header(block)
                contents.end, block = offset + len(block) - len(rest), rest
                offset = contents.end
            if not self._many(block, offset) and not self._one_by_one(block, offset):
                break
        if self.missing and self.wrong is None:
            why = f"{self.start_of_batch}: {self.missing} of the lines that belong together are missing"
            self.wrong = (why, offset + len(block))
        if self.wrong is not None:
            self._refuse_damage(*self.wrong)
        return contents

    def _refuse_damage(self, wrong: str, at: int) -> None:
        """Raise `DamagedStore` if what is not whole, at offset `at`, was so once, as a line behind it tells."""
        whole = self.contents.end  # lines that a compaction moved name other places, but all of them were synced then
        for offset, block in self._blocks(whole):
            for line in _lines(block):
                told = synced_before(line) > whole if self.format > 1 else offset > at and is_good(line)
                if told:
                    raise DamagedStore(
                        f"{self.path}, {wrong}, and that was on the disk once: nothing was changed; "
                        "restore the line, or see: aqueue doctor"
                    )
                offset += len(line)

    def _blocks(self, offset: int) -> Iterator[tuple[int, bytes]]:
        """Blocks of whole lines from `offset` on, and where they begin; the last one may lack its newline."""
        kept = b""
        while data := os.pread(self.fd, _CHUNK, offset + len(kept)):
            whole, newline, rest = data.rpartition(b"\n")
            if newline:
                block = kept + whole + newline
                yield offset, block
                offset, kept = offset + len(block), rest
            else:
                kept += data
        if kept:
            yield offset, kept

    def _header(self, block: bytes) -> bytes:
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
        self.format = header.aqueue
        self.contents.next_seq = header.next_seq
        self.contents.lines = 1
        return rest

    def _many(self, block: bytes, offset: int) -> bool:
        """Take in a block that holds nothing but jobs; False if it holds anything else."""
        if not block.endswith(b"\n"):
            return False
        plain = block if self.missing else without_seals(block)
        try:
            jobs = decode_jobs(plain)
        except UNREADABLE:
            return False
        if len(jobs) != plain.count(b"\n") or (self.missing and len(jobs) > self.missing):
            return False
        if self.missing or any(job.stdout or job.stderr for job in jobs):
            starts = _line_starts(block, offset)
            if len(starts) != len(jobs):  # others are among them
                return False
            for job, start in zip(jobs, starts, strict=True):
                self._job(job, start)
        else:
            for job in jobs:
                self.contents.apply(job, offset)
        self.contents.lines += block.count(b"\n")
        self._advance(offset + len(block))
        return True

    def _one_by_one(self, block: bytes, offset: int) -> bool:
        """Take in the lines of a block; False if there is one that is not whole."""
        for line in _lines(block):
            number = self.contents.lines + 1
            wrong = self._line(line, offset)
            if wrong:
                self.wrong = (f"line {number} (byte {offset}): {wrong}", offset)
                return False
            self.contents.lines = number
            offset += len(line)
            self._advance(offset)
        return True

    def _line(self, line: bytes, offset: int) -> str | None:
        """Take in one line; return what is wrong with it, if anything is."""
        if not line.endswith(b"\n"):
            return "it has no end"
        try:
            job = decode_job(line)
        except UNREADABLE as error:
            special = decode_special(line)
            if special is None:
                return str(error)
            if special == Together(0):
                return None
            if self.missing:
                return f"{self.missing} more jobs should be before it, for {self.start_of_batch}"
            if isinstance(special, Removed):
                self.contents.forget(special.removed)
            else:
                self.missing = special.together
                self.start_of_batch = f"line {self.contents.lines + 1} (byte {offset})"
            return None
        self._job(job, offset)
        return None

    def _job(self, job: Job, offset: int) -> None:
        if not self.missing:
            self.contents.apply(job, offset)
            return
        self.batch.append((job, offset))
        self.missing -= 1
        if not self.missing:
            for waiting, start in self.batch:
                self.contents.apply(waiting, start)
            self.batch.clear()

    def _advance(self, end: int) -> None:
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


def _line_starts(block: bytes, offset: int) -> list[int]:
    starts, at = [offset], 0
    while (at := block.find(b"\n", at) + 1) and at < len(block):
        starts.append(offset + at)
    return starts
