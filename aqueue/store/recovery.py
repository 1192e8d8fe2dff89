"""Reading a journal back: every whole line, the torn tail put aside, anything else refused.

A power cut can leave the end of the last write missing, zeroed or garbled, so a bad end is cut off and kept
beside the file. A bad line with good lines behind it is damage that no crash explains: it is refused with its
number, and nothing is changed.
"""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec.structs import force_setattr

from aqueue.errors import UNREADABLE, DamagedStore
from aqueue.job import Job
from aqueue.platform import fdatasync, sync_directory

FORMAT = 1
OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_CHUNK = 1 << 18


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
decode_job = msgspec.json.Decoder(Job).decode
_decode_jobs = msgspec.json.Decoder(Job).decode_lines
_decode_removed = msgspec.json.Decoder(Removed)
_decode_together = msgspec.json.Decoder(Together)
PROBE = encode(Together(0)) + b"\n"
"""A line that says nothing, to find out whether the disk takes writes."""


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


def open_journal(path: Path) -> tuple[int, Contents]:
    """Open the journal at `path`, making it if it is missing; return its descriptor, placed at its end, and
    what it holds. Raises `DamagedStore` if it is not whole, `OSError`."""
    fd = os.open(path, OPEN, 0o600)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise DamagedStore(f"{path} is not a regular file: move it away, or choose another store")
        if info.st_uid != os.getuid():
            raise DamagedStore(f"{path} belongs to another user (uid {info.st_uid}): choose another store")
        contents = _Reader(fd, path).read()
        if contents.end < info.st_size:
            contents.torn = _put_aside(fd, path, contents.end)
        os.lseek(fd, contents.end, os.SEEK_SET)
        if contents.end == 0:
            contents.end = write_all(fd, encode(Header(FORMAT)) + b"\n")
        if contents.lines <= 1:  # whoever made it may not have come to the end of this
            fdatasync(fd)
            for folder in path.parents[:2]:
                sync_directory(folder)
    except BaseException:
        os.close(fd)
        raise
    return fd, contents


class _Reader:
    """Reads a journal's lines in order, many at a time where nothing is special about them."""

    def __init__(self, fd: int, path: Path) -> None:
        self.fd = fd
        self.path = path
        self.contents = Contents()
        self.batch: list[tuple[Job, int]] = []
        """Lines that wait for the rest of theirs."""
        self.missing = 0
        self.bad: tuple[int, int, str] | None = None
        """Line number and offset of the first bad line, and what is wrong with it."""

    def read(self) -> Contents:
        contents = self.contents
        for offset, block in self._blocks():
            if contents.lines == 0:
                rest = self._header(block)
                contents.end, block = offset + len(block) - len(rest), rest
                offset = contents.end
            if self.bad is not None or not self._many(block, offset):
                self._one_by_one(block, offset)
        return contents

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """Blocks of whole lines and their offsets; the last one may lack its newline."""
        offset, kept = 0, b""
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
            header = msgspec.json.decode(line, type=Header)
        except UNREADABLE:
            raise DamagedStore(f"{self.path} is not an aqueue journal: line 1 does not name its format") from None
        if header.aqueue > FORMAT:
            raise DamagedStore(
                f"{self.path} has format {header.aqueue}, from a newer aqueue; this one reads up to {FORMAT}: upgrade"
            )
        self.contents.next_seq = header.next_seq
        self.contents.lines = 1
        return rest

    def _many(self, block: bytes, offset: int) -> bool:
        """Take in a block that holds nothing but jobs; False if it holds anything else."""
        if not block.endswith(b"\n"):
            return False
        try:
            jobs = _decode_jobs(block)
        except UNREADABLE:
            return False
        if block.count(b"\n") != len(jobs) or (self.missing and len(jobs) > self.missing):
            return False  # blank lines among them, or more than belong together
        if self.missing or any(job.stdout or job.stderr for job in jobs):
            for job, start in zip(jobs, _line_starts(block, offset), strict=True):
                self._job(job, start)
        else:
            for job in jobs:
                self.contents.apply(job, offset)
        self.contents.lines += len(jobs)
        self._advance(offset + len(block))
        return True

    def _one_by_one(self, block: bytes, offset: int) -> None:
        for line in _lines(block):
            self.contents.lines += 1
            wrong = self._line(line, offset)
            if wrong and self.bad is None:
                self.bad = (self.contents.lines, offset, wrong)
            elif not wrong and self.bad is not None and not is_blank(line):
                number, start, why = self.bad
                raise DamagedStore(
                    f"{self.path}, line {number} (byte {start}): {why}, with good lines behind it: "
                    "nothing was changed; restore the line, or see: aqueue doctor"
                )
            offset += len(line)
            if self.bad is None:
                self._advance(offset)

    def _line(self, line: bytes, offset: int) -> str | None:
        """Take in one line; return what is wrong with it, if anything is."""
        if not line.endswith(b"\n"):
            return "it has no end"
        if is_blank(line):
            return None
        try:
            job = decode_job(line)
        except UNREADABLE as error:
            return self._special(line, str(error))
        if self.bad is None:
            self._job(job, offset)
        return None

    def _special(self, line: bytes, why: str) -> str | None:
        if self.missing:
            return why
        try:
            removed = _decode_removed.decode(line)
        except UNREADABLE:
            pass
        else:
            if self.bad is None:
                self.contents.forget(removed.removed)
            return None
        try:
            self.missing = _decode_together.decode(line).together
        except UNREADABLE:
            return why
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


def is_blank(line: bytes) -> bool:
    """Whether a line says nothing: an editor leaves such, and they are no damage."""
    return not line.strip(b" \t\r\n")


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


def _put_aside(fd: int, path: Path, start: int) -> Path:
    """Keep what stands behind `start` in a file of its own, and cut it off."""
    aside = path.with_name(f"{path.name}.torn-{time.time_ns()}")
    copy = os.open(aside, OPEN | os.O_EXCL, 0o600)
    try:
        offset = start
        while data := os.pread(fd, 1 << 20, offset):
            write_all(copy, data)
            offset += len(data)
        fdatasync(copy)
    finally:
        os.close(copy)
    os.ftruncate(fd, start)
    fdatasync(fd)
    return aside


def write_all(fd: int, data: bytes) -> int:
    """Write all of `data`; return its length."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)
