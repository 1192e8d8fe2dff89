"""The journal as a file that is open for appending: append, sync, rewrite.

After a failed write the file is cut back to where it was known to be good; after a failed fsync nothing that this file
descriptor wrote is trusted any more, and the file has to be rewritten. So has one of an older format, before the first
append.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import ParamSpec, TypeVar

from aiofiles.os import wrap

from aqueue import layout
from aqueue.errors import StoreError
from aqueue.jobs.job import Job
from aqueue.store.journal.contents import Contents
from aqueue.store.journal.legacy import upgraded
from aqueue.store.journal.opening import OPEN, open_journal, write_all
from aqueue.store.journal.records import FORMAT, SYNC, Header, decode_record, encode, with_synced
from aqueue.system import fdatasync, sync_directory

P = ParamSpec("P")
T = TypeVar("T")
Chunk = Callable[[int], tuple[bytes, int]]
"""Makes a part of a rewritten file: it is called with the offset at which its bytes will stand, in a thread, and
returns them and their number of lines."""
_SMALL = 1 << 16
"""Up to so many bytes an append is faster than the way to a thread and back: it only fills the page cache."""


class JournalFile:
    """The file. One asyncio lock serializes all that writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.lines = 0
        self.lock = asyncio.Lock()
        self.closing = False
        self.suspect = False
        """Whether an fsync failed: only a file written anew can be trusted then."""
        self._format = FORMAT
        self._fd = -1
        self._synced = 0
        """Where to go back to if a sync fails."""
        self._proven = 0
        """How many bytes are on stable storage for certain: of those that were found there nobody knows."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aqueue-journal")
        self._rewriter = ThreadPoolExecutor(1, thread_name_prefix="aqueue-compaction")

    async def open(self) -> Contents:
        """Read the file, cut off a torn tail, and make it ready. Raises `DamagedStore`, `StoreError`."""
        try:
            self._fd, contents = await _in(self._thread, open_journal, self.path)
        except OSError as error:
            raise StoreError(f"cannot open {self.path}: {error.strerror}") from error
        self.size = self._synced = contents.end
        self.lines = contents.lines
        self._format = contents.format
        return contents

    @property
    def must_be_rewritten(self) -> bool:
        """Whether nothing can be appended before `rewrite` has succeeded."""
        return self.suspect or self._format < FORMAT

    async def append(self, parts: Sequence[bytes], lines: int) -> list[int]:
        """Append `parts`, whole lines, and return their offsets. They survive this process from now on, and a power
        cut after `sync`. Raises `StoreError`, and then they are not in the file. The caller holds `lock`."""
        data = b"".join([with_synced(parts[0], self._proven), *parts[1:]])
        start = await self._write(len(data) <= _SMALL, write_all, data)
        self.lines += lines
        behind_first = self.size - sum(map(len, parts[1:]))
        return [start, *accumulate(map(len, parts[1:-1]), initial=behind_first)][: len(parts)]

    async def append_long(self, parts: Iterator[bytes], lines: int) -> int:
        """Append what `parts` yields as `append` would; each part is made in a thread, just before it is written."""
        start = await self._write(False, _write_parts, self._proven, parts)
        self.lines += lines
        return start

    async def _write(self, here: bool, write: Callable[..., int], *arguments: object) -> int:
        """Let `write` append to the file, `here` or in the thread; it returns how much that is. Returns
        where that begins."""
        self._check_trusted()
        start = self.size
        try:
            written = write(self._fd, *arguments) if here else await _in(self._thread, write, self._fd, *arguments)
            self._check_trusted()
        except OSError as error:
            self._cut(start)
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error
        except StoreError:
            self._cut(self._synced)
            raise
        self.size += written
        return start

    async def sync(self) -> None:
        """Return once all that was appended by now is on stable storage. Raises `StoreError`, and then nothing
        that was appended since the last success is in the file."""
        self._check_trusted()
        size = self.size
        try:
            await _in(self._thread, fdatasync, self._fd)
        except OSError as error:
            self.suspect = True  # the kernel may have dropped the pages: a later fsync proves nothing
            self._cut(self._synced)
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error
        self._synced = self._proven = size

    async def mark_synced(self) -> None:
        """Write at the end of a file that is synced that it is, as a later write would. If that fails, no harm is
        done."""
        if self._proven == self.size and not self.must_be_rewritten:
            with suppress(StoreError):
                await self.append([SYNC], 1)

    def _check_trusted(self) -> None:
        if self.suspect:
            raise StoreError(f"{self.path} has to be written anew after a failed fsync")

    def _cut(self, size: int) -> None:
        """Take back what stands behind `size`."""
        suspect, self.suspect = self.suspect, True  # should this fail, what was to be taken back is still there
        self.size = size
        try:
            os.ftruncate(self._fd, size)
            os.lseek(self._fd, size, os.SEEK_SET)
        except OSError:
            return
        self.suspect = suspect

    def read_line(self, offset: int) -> bytes:
        """The line that begins at `offset`, in today's format and without its newline."""
        parts = []
        while part := os.pread(self._fd, 1 << 16, offset):
            line, newline, _ = part.partition(b"\n")
            parts.append(line)
            if newline:
                break
            offset += len(part)
        line = b"".join(parts)
        return line if self._format == FORMAT else upgraded(line, self._format)

    def read_job(self, offset: int) -> Job:
        """The job in the line that begins at `offset`."""
        job = decode_record(self.read_line(offset))
        assert isinstance(job, Job)
        return job

    async def rewrite(
        self, snapshot: Callable[[], tuple[int, Iterator[Chunk]]], quiet: Callable[[], Awaitable[None]]
    ) -> tuple[int, int]:
        """Compaction: put a new file in place of this one, without keeping appends out for more than a moment.

        `snapshot` is called while nothing can be appended and, after `quiet`, all that was appended is known. It
        returns the next sequence number and the chunks that make the new file. What was appended meanwhile is copied
        behind them. Returns where that tail begins in the old and in the new file. Raises `StoreError`; the old file
        stays.
        """
        fresh = self.path.with_name(layout.REWRITTEN)
        thread, fd = self._rewriter, -1
        try:
            async with self.lock:
                await quiet()
                covered, covered_lines = self.size, self.lines
                next_seq, chunks = snapshot()
            fd = await _in(thread, os.open, fresh, OPEN | os.O_TRUNC, 0o600)
            size, lines = await _in(thread, write_all, fd, encode(Header(FORMAT, next_seq)) + b"\n"), 1
            for chunk in chunks:
                if self.closing and not self.must_be_rewritten:
                    raise StoreError("the store closes")
                data, count = await _in(thread, chunk, size)
                size, lines = size + await _in(thread, write_all, fd, data), lines + count
            await _in(thread, fdatasync, fd)  # the bulk, while appends go on
            async with self.lock:
                await quiet()
                tail = await _in(thread, _copy, self._fd, covered, self.size, fd)
                lasts = await _in(thread, _replace, fd, fresh, self.path)
                old, self._fd, fd = self._fd, fd, -1
                self._rewriter.submit(os.close, old)  # freeing a large file takes the system a while
                self.size = self._synced = self._proven = size + tail
                self.lines, self.suspect = lines + self.lines - covered_lines, not lasts
                self._format = FORMAT
            return covered, size
        except (OSError, RuntimeError) as error:  # a `RuntimeError`: there was no thread to be had
            raise StoreError(f"cannot write {fresh}: {error}") from error
        finally:
            if fd >= 0:
                os.close(fd)
                fresh.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, once what is under way has ended."""
        self._thread.shutdown()
        self._rewriter.shutdown()
        if self._fd >= 0:
            os.close(self._fd)


async def _in(thread: ThreadPoolExecutor, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call `function` in a thread of the journal's own, where nothing of the application can delay it."""
    result: T = await wrap(function)(*arguments, executor=thread, **named)
    return result


def _write_parts(fd: int, synced: int, parts: Iterator[bytes]) -> int:
    """Write what `parts` yields, as a write that began when so much was synced; return its length."""
    size = write_all(fd, with_synced(next(parts), synced))
    return size + sum(write_all(fd, part) for part in parts)


def _copy(source: int, start: int, end: int, target: int) -> int:
    """Append bytes `start` to `end` of one file to another; return how many that are."""
    for offset in range(start, end, 1 << 20):
        write_all(target, os.pread(source, min(1 << 20, end - offset), offset))
    return end - start


def _replace(fd: int, fresh: Path, path: Path) -> bool:
    """Put a file in the place of another; False if the new name may not survive a power cut."""
    fdatasync(fd)
    os.replace(fresh, path)
    try:
        sync_directory(path.parent)
    except OSError:
        return False
    return True
