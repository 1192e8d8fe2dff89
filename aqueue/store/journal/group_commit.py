"""Group commit: changes that arrive while a write is under way share the next write and its fsync.

One task appends and another syncs. Somebody waits for a change until it is durable (`commit`), or it is a fact that
must not be lost, such as how an attempt ended (`commit_later`). When the disk refuses, those who wait get the error,
facts are kept, nothing new is claimed (`writable`), and the disk is tried again until it takes writes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from aqueue.errors import PoolGone, StoreError
from aqueue.store.journal.entry import Entry, OnDurable
from aqueue.store.journal.file import JournalFile
from aqueue.store.journal.records import SYNC, Record

_log = logging.getLogger("aqueue.store.journal")
LINGER = 0.003
"""Seconds for which results that nobody waits for wait for others to share their fsync."""
RETRY_EVERY = 1.0
"""Seconds between tries while the disk refuses."""
COMPACT_AGAIN = 60.0
"""Seconds until a compaction that failed is tried again."""
COMPACT_AT = 5000
"""A journal of fewer lines is left alone."""


class GroupCommit:
    """Appends entries to a journal and syncs them, in order; calls `compact` when more lines are dead than alive."""

    def __init__(
        self, file: JournalFile, *, compact: Callable[[], Awaitable[None]], count_alive: Callable[[], int]
    ) -> None:
        self.trouble: str | None = None
        self.writable = asyncio.Event()
        self.closing = False
        self._file = file
        self._compact = compact
        self._count_alive = count_alive
        self._entries: list[Entry] = []
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsynced: list[Entry] = []
        self._sync_now = asyncio.Event()
        self._syncing: asyncio.Task[None] | None = None
        self._rewriting = asyncio.Lock()
        self._compaction: asyncio.Task[None] | None = None
        self._compact_from = 0.0

    def start(self) -> None:
        self.writable.set()
        self._task = asyncio.create_task(self._write_groups(), name="aqueue journal")

    async def commit(
        self,
        records: Sequence[Record],
        on_durable: OnDurable | None = None,
        *,
        synced: bool = True,
        when_decided: Callable[[], None] | None = None,
    ) -> None:
        """Return once `records` are durable (not `synced`: once they survive this process, if not yet a power cut).
        Raises `StoreError`: then they are not stored. `when_decided` is called either way, whoever still waits."""
        entry = Entry(records, on_durable, synced=synced, when_decided=when_decided)
        entry.done = asyncio.get_running_loop().create_future()
        self._put(entry)
        await entry.done

    def commit_later(
        self, records: Sequence[Record], on_durable: OnDurable | None = None, *, sync_now: bool = True
    ) -> None:
        """Make `records` durable as soon as the disk allows; not to `sync_now`, somewhat later, to share an fsync."""
        self._put(Entry(records, on_durable, synced=sync_now))

    async def close(self) -> None:
        """Write what is left. Raises `StoreError` if a fact could not be stored."""
        self.closing = self._file.closing = True
        self._work.set()
        if self._task is not None:
            await self._task
        await self.quiet()
        if self._compaction is not None:
            await self._compaction
        async with self._file.lock:
            await self._file.mark_synced()
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
            group = self._take_group()
            try:
                if self.trouble:
                    await self._recover()
                if group:
                    await self._append(group)
            except StoreError as error:
                self._refuse(group, error)
            if self.closing and not self._entries:
                await self.quiet()
            if self.closing and (self.trouble or not self._entries):
                return

    def _take_group(self) -> list[Entry]:
        """The entries that the next write holds; a long one is a write of its own."""
        entries, self._entries = self._entries, []
        for index, entry in enumerate(entries):
            if entry.long and len(entries) > 1:
                count = index or 1
                self._entries = entries[count:]
                self._work.set()
                return entries[:count]
        return entries

    async def _append(self, group: list[Entry]) -> None:
        if self._file.must_be_rewritten:
            await self._rewrite()
        async with self._file.lock:
            if group[0].long:
                offsets = [await self._file.append_long(group[0].parts(), group[0].lines)]
            else:
                lines = sum(entry.lines for entry in group)
                offsets = await self._file.append([entry.data for entry in group], lines)
            for entry, offset in zip(group, offsets, strict=True):
                entry.offset = offset
                if entry.synced:
                    self._sync_now.set()
                else:
                    entry.succeed()
            self._unsynced += group
            if self._syncing is None:
                self._syncing = asyncio.create_task(self._sync_groups(), name="aqueue fsync")

    async def _sync_groups(self) -> None:
        """Make durable what was appended, and publish it."""
        while self._unsynced:
            await self._linger()
            group, self._unsynced = self._unsynced, []
            try:
                await self._file.sync()
            except StoreError as error:
                lost, self._unsynced = group + self._unsynced, []
                self._refuse(lost, error)
                self._work.set()
                break
            for entry in group:
                if entry.on_durable is not None:
                    await entry.on_durable(entry.offset)
                entry.succeed()
                entry.decide()
        self._syncing = None
        self._compact_if_due()

    async def _linger(self) -> None:
        """Give others a moment to share the next fsync, while nobody waits for it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await self._sync_now.wait()
        self._sync_now.clear()

    async def quiet(self) -> None:
        """Return once all that was appended is durable and published, or refused."""
        self._sync_now.set()
        if self._syncing is not None:
            await self._syncing

    def _compact_if_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._file.lines <= 2 * self._count_alive() + COMPACT_AT or now < self._compact_from:
            return
        if self._compaction is None and not self.closing and not self.trouble:
            self._compaction = asyncio.create_task(self._run_compaction(), name="aqueue compaction")

    async def _run_compaction(self) -> None:
        try:
            async with self._rewriting:
                await self._compact()
        except StoreError:
            # The old file stays in service, and may take appends where there is no room for a second one.
            self._compact_from = asyncio.get_running_loop().time() + COMPACT_AGAIN
        finally:
            self._compaction = None

    async def _rewrite(self) -> None:
        """Rewrite a file to which nothing can be appended."""
        async with self._rewriting:
            if self._file.must_be_rewritten:  # no compaction has done it meanwhile
                await self._compact()

    async def _recover(self) -> None:
        """Find out whether the disk takes writes again."""
        await self.quiet()
        if self._file.must_be_rewritten:
            await self._rewrite()
        async with self._file.lock:
            await self._file.append([SYNC], 1)
            await self._file.sync()
        self.trouble = None
        self.writable.set()
        _log.warning("the store can be written again")

    def _refuse(self, group: list[Entry], error: StoreError) -> None:
        """Pass the error to those who wait, keep the facts, and try again later."""
        if self.trouble is None:
            _log.warning("nothing new is started until the store can be written again: %s", error)
        self.trouble = str(error)
        self.writable.clear()
        facts = []
        for entry in group:
            if entry.is_fact:
                facts.append(entry)
            else:
                entry.fail(StoreError(str(error)))
            entry.decide()
        self._entries[:0] = facts
