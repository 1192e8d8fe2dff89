"""The append-only JSON Lines file that is the store: group commit, recovery, compaction.

The first line names the format. Every other line is one job as it stands after a change, and the last line for an
id wins; `{"removed": id}` forgets a job, and `{"together": n}` says that the next n lines hold all or none of them.
A line counts once its newline is on the disk. Lines that arrive while a write is under way share the next write
and its fsync. After a failed write the file is cut back to where it was known to be good; after a failed fsync
nothing that this file descriptor wrote is trusted any more, and the file has to be written anew.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from aiofiles.os import wrap

from aqueue.errors import StoreError
from aqueue.platform import fdatasync, sync_directory
from aqueue.store.recovery import FORMAT, OPEN, Contents, Header, encode, open_journal, write_all

P = ParamSpec("P")
T = TypeVar("T")
Batch = Callable[[int], tuple[bytes, int]]


class Journal:
    """The file, open for appending. One asyncio lock serializes all that writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.lines = 0
        self.lock = asyncio.Lock()
        self._fd = -1
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aqueue-journal")
        self.closing = False
        self._suspect = False

    async def open(self) -> Contents:
        """Read the file, cut off a torn tail, and make it ready. Raises `DamagedStore`, `StoreError`."""
        try:
            self._fd, contents = await self.in_thread(open_journal, self.path)
        except OSError as error:
            raise StoreError(f"cannot open {self.path}: {error.strerror}") from error
        self.size, self.lines = contents.end, contents.lines
        return contents

    async def write(self, data: bytes, lines: int) -> int:
        """Append whole lines; return their offset once they are on stable storage. Raises `StoreError`, and
        then they are not in the file. The caller holds `lock`."""
        if self._suspect:
            raise StoreError(f"{self.path} has to be written anew after a failed fsync")
        start = self.size
        try:
            await self.in_thread(self._commit, data, start)
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error
        self.size += len(data)
        self.lines += lines
        return start

    def _commit(self, data: bytes, start: int) -> None:
        try:
            write_all(self._fd, data)
        except OSError:
            self._suspect = True  # until what was written of it is gone
            _cut(self._fd, start)
            self._suspect = False
            raise
        try:
            fdatasync(self._fd)
        except OSError:
            self._suspect = True  # the kernel may have dropped the pages: a later fsync proves nothing
            _cut(self._fd, start)
            raise

    @property
    def suspect(self) -> bool:
        """Whether an fsync failed, so that only a file written anew can be trusted."""
        return self._suspect

    def read_line(self, offset: int) -> bytes:
        """The line that begins at `offset`, without its newline."""
        parts = []
        while part := os.pread(self._fd, 1 << 16, offset):
            line, newline, _ = part.partition(b"\n")
            parts.append(line)
            if newline:
                break
            offset += len(part)
        return b"".join(parts)

    async def rewrite(self, snapshot: Callable[[], tuple[int, Iterator[Batch]]]) -> tuple[int, int]:
        """Compaction: put a new file in place of this one, without keeping appends out meanwhile.

        `snapshot` is called while nothing can be appended. It returns the next sequence number and the batches
        that make the new file: each is called, in the journal's thread, with the offset at which its bytes will
        stand, and returns them and their number of lines. What was appended meanwhile is copied behind them.
        Returns where that tail begins in the old and in the new file. Raises `StoreError`; the old file stays.
        """
        fresh = self.path.with_suffix(".new")
        fd = -1
        try:
            async with self.lock:
                covered, covered_lines = self.size, self.lines
                next_seq, batches = snapshot()
            fd = await self.in_thread(os.open, fresh, OPEN | os.O_TRUNC, 0o600)
            size, lines = await self.in_thread(write_all, fd, encode(Header(FORMAT, next_seq)) + b"\n"), 1
            for batch in batches:
                if self.closing:
                    raise StoreError("the store closes")
                data, count = await self.in_thread(batch, size)
                size, lines = size + await self.in_thread(write_all, fd, data), lines + count
            await self.in_thread(fdatasync, fd)  # the bulk, while appends go on
            async with self.lock:
                tail = await self.in_thread(_copy, self._fd, covered, self.size, fd)
                await self.in_thread(fdatasync, fd)
                await self.in_thread(os.replace, fresh, self.path)
                old, self._fd, fd = self._fd, fd, -1
                os.close(old)
                self.size, self.lines = size + tail, lines + self.lines - covered_lines
                self._suspect = not await self.in_thread(_name_lasts, self.path)
            return covered, size
        except OSError as error:
            raise StoreError(f"cannot write {fresh}: {error.strerror}") from error
        finally:
            if fd >= 0:
                os.close(fd)
                fresh.unlink(missing_ok=True)

    async def in_thread(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call `function` in the journal's own thread, where nothing of the application can delay it."""
        result: T = await wrap(function)(*arguments, executor=self._thread, **named)
        return result

    def close(self) -> None:
        """Let go of the file, once what is under way has ended."""
        self._thread.shutdown()
        if self._fd >= 0:
            os.close(self._fd)


def _cut(fd: int, size: int) -> None:
    os.ftruncate(fd, size)
    os.lseek(fd, size, os.SEEK_SET)


def _copy(source: int, start: int, end: int, target: int) -> int:
    """Append bytes `start` to `end` of one file to another; return how many that are."""
    for offset in range(start, end, 1 << 20):
        write_all(target, os.pread(source, min(1 << 20, end - offset), offset))
    return end - start


def _name_lasts(path: Path) -> bool:
    """Make the new name of a file durable; False if that failed: after a power cut the old file may be back."""
    try:
        sync_directory(path.parent)
    except OSError:
        return False
    return True
