"""Group commit: changes that arrive while a write is under way share the next write and its fsync.

One task appends and another syncs. A change is either asked for (`write`: its asker is told whether it is
durable) or a fact that must not be lost (`promise`: how an attempt ended). When the disk refuses, askers get the
error, facts are kept, nothing new is claimed (`healthy`), and the disk is tried again until it takes writes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from aqueue.errors import PoolGone, StoreError
from aqueue.jobs.job import Job
from aqueue.store.journal.file import Journal
from aqueue.store.journal.records import NOTHING

_log = logging.getLogger("aqueue.store.journal")
LINGER = 0.003
"""Seconds for which results that nobody waits for wait for others to share their fsync."""
RETRY_EVERY = 1.0
"""Seconds between tries while the disk refuses."""
COMPACT_AGAIN = 60.0
"""Seconds until a compaction that failed is tried again."""
_COMPACT_AT = 5000
"""A journal of fewer lines is left alone."""


class Entry:
    """Lines that belong together, and the jobs they are about."""

    def __init__(
        self,
        lines: Sequence[bytes],
        changed: Sequence[Job],
        *,
        new: bool = False,
        early: bool = False,
        over: Callable[[], None] | None = None,
    ) -> None:
        self.data = b"\n".join(lines) + b"\n"
        self.lines = len(lines)
        self.changed = changed
        self.new = new
        self.early = early
        """Whether it is enough for now that it survives this process: nobody waits for its fsync."""
        self.over = over
        """Called when it is known whether it is durable."""
        self.offset = 0
        self.done: asyncio.Future[None] | None = None
        """The asker's; None for a fact."""

    def settle(self) -> None:
        """Tell the asker that it is done."""
        if self.done is not None and not self.done.done():
            self.done.set_result(None)


class Writer:
    """Writes entries to a journal; calls `committed` for each in order when it is durable, and `compact` when more
    lines are dead than alive."""

    def __init__(
        self,
        journal: Journal,
        *,
        committed: Callable[[Entry], Awaitable[None]],
        compact: Callable[[], Awaitable[None]],
        alive: Callable[[], int],
    ) -> None:
        self.trouble: str | None = None
        self.healthy = asyncio.Event()
        self.closing = False
        self._journal = journal
        self._committed = committed
        self._compact = compact
        self._alive = alive
        self._entries: list[Entry] = []
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsynced: list[Entry] = []
        self._urgent = asyncio.Event()
        self._syncing: asyncio.Task[None] | None = None
        self._compaction: asyncio.Task[None] | None = None
        self._compact_from = 0.0

    def start(self) -> None:
        self.healthy.set()
        self._task = asyncio.create_task(self._write_groups(), name="aqueue journal")

    async def write(
        self,
        lines: Sequence[bytes],
        changed: Sequence[Job] = (),
        *,
        new: bool = False,
        early: bool = False,
        over: Callable[[], None] | None = None,
    ) -> None:
        """Return once `lines` are durable (`early`: once they survive this process, if not yet a power cut).
        Raises `StoreError`: then they are not stored."""
        entry = Entry(lines, changed, new=new, early=early, over=over)
        entry.done = asyncio.get_running_loop().create_future()
        self._put(entry)
        await entry.done

    def promise(self, lines: Sequence[bytes], changed: Sequence[Job] = (), *, urgent: bool = True) -> None:
        """See to it that `lines` become durable as soon as the disk allows; unless it is `urgent`, somewhat later,
        to share an fsync."""
        self._put(Entry(lines, changed, early=not urgent))

    async def close(self) -> None:
        """Write what is left. Raises `StoreError` if a fact could not be stored."""
        self.closing = self._journal.closing = True
        self._work.set()
        if self._task is not None:
            await self._task
        await self.quiet()
        if self._compaction is not None:
            await self._compaction
        async with self._journal.lock:
            await self._journal.seal()
        if self._entries:
            raise StoreError(f"{len(self._entries)} results could not be stored: {self.trouble}")

    def _put(self, entry: Entry) -> None:
        if self._task is None or self._task.done():
            raise PoolGone("the store is closed")  # no `StoreError`: trying again would not help
        self._entries.append(entry)
        self._work.set()

    async def _write_groups(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RETRY_EVERY if self.trouble else None):
                    await self._work.wait()
            except TimeoutError:
                pass
            self._work.clear()
            group, self._entries = self._entries, []
            try:
                if self.trouble:
                    await self._recover()
                if group:
                    await self._append(group)
            except StoreError as error:
                self._refused(group, error)
            if self.closing and not self._entries:
                await self.quiet()
            if self.closing and (self.trouble or not self._entries):
                return

    async def _append(self, group: list[Entry]) -> None:
        async with self._journal.lock:
            offsets = await self._journal.append([entry.data for entry in group], sum(entry.lines for entry in group))
            for entry, offset in zip(group, offsets, strict=True):
                entry.offset = offset
                if entry.early:
                    entry.settle()
                else:
                    self._urgent.set()
            self._unsynced += group
            if self._syncing is None:
                self._syncing = asyncio.create_task(self._sync_groups(), name="aqueue fsync")

    async def _sync_groups(self) -> None:
        """Make durable what was appended, and make it known."""
        while self._unsynced:
            await self._linger()
            group, self._unsynced = self._unsynced, []
            try:
                await self._journal.sync()
            except StoreError as error:
                lost, self._unsynced = group + self._unsynced, []
                self._refused(lost, error)
                self._work.set()
                break
            for entry in group:
                await self._committed(entry)
                entry.settle()
                if entry.over is not None:
                    entry.over()
        self._syncing = None
        self._compact_if_due()

    async def _linger(self) -> None:
        """Give others a moment to share the next fsync, while nobody waits for it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await self._urgent.wait()
        self._urgent.clear()

    async def quiet(self) -> None:
        """Return once all that was appended is durable and known, or refused."""
        self._urgent.set()
        if self._syncing is not None:
            await self._syncing

    def _compact_if_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._journal.lines <= 2 * self._alive() + _COMPACT_AT or now < self._compact_from:
            return
        if self._compaction is None and not self.closing and not self.trouble:
            self._compaction = asyncio.create_task(self._run_compaction(), name="aqueue compaction")

    async def _run_compaction(self) -> None:
        try:
            await self._compact()
        except StoreError:
            # The old file stays in service, and may take appends where there is no room for a second one.
            self._compact_from = asyncio.get_running_loop().time() + COMPACT_AGAIN
        finally:
            self._compaction = None

    async def _recover(self) -> None:
        """Find out whether the disk takes writes again."""
        await self.quiet()
        if self._journal.suspect:
            await self._compact()
        async with self._journal.lock:
            await self._journal.append([NOTHING], 1)
            await self._journal.sync()
        self.trouble = None
        self.healthy.set()
        _log.warning("the store can be written again")

    def _refused(self, group: list[Entry], error: StoreError) -> None:
        """Tell the askers, keep the facts, and try again later."""
        if self.trouble is None:
            _log.warning("nothing new is started until the store can be written again: %s", error)
        self.trouble = str(error)
        self.healthy.clear()
        facts = []
        for entry in group:
            if entry.done is None or (entry.early and entry.done.done()):
                facts.append(entry)
            elif not entry.done.done():
                entry.done.set_exception(StoreError(str(error)))
            if entry.over is not None:
                entry.over()
        self._entries[:0] = facts
