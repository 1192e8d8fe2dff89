"""The append-only JSON Lines file that is the store: group commit, recovery, compaction.

The last line for an id wins; `aqueue.store.journal.records` says what lines there are. Lines that arrive while a write is
way share the next write and its fsync. After a failed write the file is cut back to where it was known to be good;
after a failed fsync nothing that this file descriptor wrote is trusted any more, and the file has to be written anew.
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

from aqueue.errors import StoreError
from aqueue.store.journal.opening import OPEN, open_journal, write_all
from aqueue.store.journal.reader import Contents
from aqueue.store.journal.records import FORMAT, NOTHING, Header, encode, with_synced
from aqueue.system.posix import fdatasync, sync_directory

P = ParamSpec("P")
T = TypeVar("T")
Batch = Callable[[int], tuple[bytes, int]]
_SMALL = 1 << 16
"""Up to so many bytes an append is faster than the way to a thread and back: it only fills the page cache."""


class Journal:
    """The file, open for appending. One asyncio lock serializes all that writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.lines = 0
        self.lock = asyncio.Lock()
        self.closing = False
        self.suspect = False
        """Whether an fsync failed: only a file written anew can be trusted then."""
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
        return contents

    async def append(self, parts: Sequence[bytes], lines: int) -> list[int]:
        """Append `parts`, whole lines, and return their offsets. They survive this process from now on, and a power
        cut after `sync`. Raises `StoreError`, and then they are not in the file. The caller holds `lock`."""
        self._trusted()
        start = self.size
        data = with_synced(parts, self._proven)
        try:
            if len(data) <= _SMALL:
                write_all(self._fd, data)
            else:
                await _in(self._thread, write_all, self._fd, data)
            self._trusted()
        except OSError as error:
            self._cut(start)
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error
        except StoreError:
            self._cut(self._synced)
            raise
        self.size += len(data)
        self.lines += lines
        behind_first = start + len(data) - sum(map(len, parts[1:]))
        return [start, *accumulate(map(len, parts[1:-1]), initial=behind_first)][: len(parts)]

    async def sync(self) -> None:
        """Return once all that was appended by now is on stable storage. Raises `StoreError`, and then nothing
        that was appended since the last success is in the file."""
        self._trusted()
        size = self.size
        try:
            await _in(self._thread, fdatasync, self._fd)
        except OSError as error:
            self.suspect = True  # the kernel may have dropped the pages: a later fsync proves nothing
            self._cut(self._synced)
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error
        self._synced = self._proven = size

    async def seal(self) -> None:
        """Say at the end of a file that is synced that it is, where a later write would. Not said, no harm is done."""
        if self._proven == self.size and not self.suspect:
            with suppress(StoreError):
                await self.append([NOTHING], 1)

    def _trusted(self) -> None:
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
        """The line that begins at `offset`, without its newline."""
        parts = []
        while part := os.pread(self._fd, 1 << 16, offset):
            line, newline, _ = part.partition(b"\n")
            parts.append(line)
            if newline:
                break
            offset += len(part)
        return b"".join(parts)

    async def rewrite(
        self, snapshot: Callable[[], tuple[int, Iterator[Batch]]], quiet: Callable[[], Awaitable[None]]
    ) -> tuple[int, int]:
        """Compaction: put a new file in place of this one, without keeping appends out for more than a moment.

        `snapshot` is called while nothing can be appended and, after `quiet`, all that was appended is known. It
        returns the next sequence number and the batches that make the new file: each is called, in a thread, with
        the offset at which its bytes will stand, and returns them and their number of lines. What was appended
        meanwhile is copied behind them. Returns where that tail begins in the old and in the new file. Raises
        `StoreError`; the old file stays.
        """
        fresh = self.path.with_suffix(".new")
        thread, fd = self._rewriter, -1
        try:
            async with self.lock:
                await quiet()
                covered, covered_lines = self.size, self.lines
                next_seq, batches = snapshot()
            fd = await _in(thread, os.open, fresh, OPEN | os.O_TRUNC, 0o600)
            size, lines = await _in(thread, write_all, fd, encode(Header(FORMAT, next_seq)) + b"\n"), 1
            for batch in batches:
                if self.closing:
                    raise StoreError("the store closes")
                data, count = await _in(thread, batch, size)
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
            return covered, size
        except (OSError, RuntimeError) as error:  # a `RuntimeError`: there was no thread to be had
            raise StoreError(f"cannot write {fresh}: {error}") from error
        finally:
            if fd >= 0:
                os.close(fd)
                fresh.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, once what is under way has ended."""
        self._thread.shutdown()
        self._rewriter.shutdown()
        if self._fd >= 0:
            os.close(self._fd)


async def _in(thread: ThreadPoolExecutor, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call `function` in a thread of the journal's own, where nothing of the application can delay it."""
    result: T = await wrap(function)(*arguments, executor=thread, **named)
    return result


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
