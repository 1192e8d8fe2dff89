"""The store that is a directory, for queries and changes: in memory what decides, in the journal every change.

A change is made in memory, written, and published once it is durable; new jobs appear only then. Whoever opens the
store holds its lock, so there is one owner at a time. Output is not kept in memory but read from the journal.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from aqueue import layout
from aqueue.errors import InvalidRequest, PoolRunning, StoreError, UnknownJob
from aqueue.jobs import lifecycle
from aqueue.jobs.job import WAITING_STATES, Job, utc_now
from aqueue.jobs.spec import NewJob
from aqueue.store.ids import Ids, Reservation
from aqueue.store.journal import compaction
from aqueue.store.journal.dispatcher import Dispatcher
from aqueue.store.journal.file import Chunk, JournalFile
from aqueue.store.journal.group_commit import GroupCommit
from aqueue.store.journal.interning import Interner
from aqueue.store.journal.job_table import JobTable
from aqueue.store.journal.new_jobs import collect, make_jobs
from aqueue.store.journal.output_index import OutputIndex, without_output
from aqueue.store.journal.records import Batch, Record, Removal
from aqueue.store.journal.slicing import slices
from aqueue.store.pool_info import PoolInfo
from aqueue.store.protocol import Counts, Query
from aqueue.store.subscriptions import OnChange, OnRemoval, Subscribers, Unsubscribe
from aqueue.system import ensure_private_directory, try_lock

_log = logging.getLogger("aqueue.store.journal")


class JournalStore:
    """See `aqueue.store.protocol.Store`."""

    def __init__(self, path: Path, queues: frozenset[str] = frozenset()) -> None:
        """`queues` are those whose jobs start here; all if none is named."""
        self.path = path
        self._queues = queues
        self._table = JobTable({})
        self._subscribers = Subscribers()
        self._file = JournalFile(path / layout.JOURNAL)
        self._ids = Ids(self._table.by_id, set(), 1)
        self._outputs = OutputIndex(self._file, {})
        self._journal = GroupCommit(self._file, compact=self._compact, count_alive=lambda: len(self._table))
        self._dispatching: Dispatcher | None = None
        self._lock = -1

    @property
    def trouble(self) -> str | None:
        return self._journal.trouble

    async def __aenter__(self) -> Self:
        ensure_private_directory(self.path)
        lock = try_lock(self.path / layout.LOCK)
        if lock is None:
            raise PoolRunning(f"another process holds the store {self.path}")
        self._lock = lock
        try:
            contents = await self._file.open()
        except BaseException:
            self._file.close()
            os.close(lock)
            raise
        self._table = JobTable(contents.jobs)
        self._ids = Ids(contents.jobs, contents.removed, contents.next_seq)
        self._outputs = OutputIndex(self._file, contents.output_offsets)
        if contents.torn:
            _log.info("the end of the journal was torn by a crash; it is kept in %s", contents.torn)
        self._journal.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._dispatching is not None:
            self._dispatching.close()
        try:
            await self._journal.close()
        finally:
            self._subscribers.close()
            self._file.close()
            os.close(self._lock)

    # Changes

    async def add(self, specs: Iterable[NewJob], *, if_absent: bool = False) -> list[Job]:
        waiting, chosen = await collect(specs)
        if if_absent:
            await self._ids.wait_unreserved(chosen)  # somebody is just adding one of them
        existing = self._ids.check_free(chosen, if_absent=if_absent)
        order = [spec.id or "" for spec in waiting] if existing else []
        with self._ids.reserve(set(chosen) - existing) as reserved:
            made = await make_jobs(waiting, self._ids, reserved, existing)
            await self._add_new(made, reserved)
        if not existing:
            return made
        fresh = iter(made)
        return [await self.get(job_id) if job_id in existing else next(fresh) for job_id in order]

    async def import_jobs(self, jobs: Sequence[Job]) -> list[Job]:
        job_ids = [job.id for job in jobs]
        self._ids.check_free(job_ids)
        made = [replace(job, seq=self._ids.take_seq()) for job in jobs]
        interner = Interner()
        for job in made:
            interner.intern(job)
        with self._ids.reserve(job_ids) as reserved:
            await self._add_new([without_output(job) for job in made], reserved)
        for part in slices([job for job in made if job.stdout or job.stderr]):
            await asyncio.gather(*(self._commit(job) for job in part))
        return made

    async def _add_new(self, jobs: list[Job], reserved: Reservation) -> None:
        """Write new jobs, all or none; they are seen when they are durable. Their ids stay reserved until then,
        also if whoever asked for them has gone."""
        records: list[Record] = [Batch(len(jobs)), *jobs] if len(jobs) > 1 else [*jobs]
        if records:
            await self._journal.commit(records, partial(self._publish_new, jobs), when_decided=reserved.hand_over())

    async def cancel(self, job_id: str) -> Job:
        return await self._apply(lifecycle.cancelled, job_id)

    async def retry(self, job_id: str) -> Job:
        return await self._apply(lifecycle.retried, job_id)

    async def _apply(self, rule: Callable[..., Job], job_id: str) -> Job:
        """Change a job by one of the rules of `aqueue.jobs.lifecycle`; taken back if it cannot be written."""
        before = self._known(job_id)
        after = rule(self._outputs.with_output(before), now=utc_now())
        in_memory = without_output(after)
        self._change(before, in_memory)
        try:
            await self._commit(after)
        except StoreError:
            if self._table.by_id.get(job_id) is in_memory:
                self._change(in_memory, before)
                # A compaction may have written what was taken back.
                self._journal.commit_later([self._outputs.with_output(before)])
            raise
        return after

    async def remove(self, job_ids: Sequence[str]) -> list[Job]:
        gone = [self._known(job_id) for job_id in dict.fromkeys(job_ids)]
        for job in gone:
            lifecycle.check_removable(job)
        for job in gone:
            self._change(job, None)
            self._ids.removed.add(job.id)
        try:
            await self._journal.commit([Removal(job.id) for job in gone])
        except StoreError:
            for job in gone:
                self._ids.removed.discard(job.id)
                self._change(None, job)
                self._journal.commit_later([self._outputs.with_output(job)])
            raise
        for job in gone:
            self._outputs.remove(job)
            self._subscribers.publish_removal(job.id)
        return gone

    # Queries

    async def get(self, job_id: str) -> Job:
        return self._outputs.with_output(self._known(job_id))

    async def find(self, query: Query) -> AsyncIterator[list[Job]]:
        async for part in self._table.find(query):
            yield [self._outputs.with_output(job) for job in part] if query.output else part

    async def wait(self, job_id: str) -> Job:
        job = self._known(job_id)
        if job.state.final and job.seq not in self._outputs.unwritten:
            return self._outputs.with_output(job)
        ended = await self._subscribers.wait_for_end(job_id)
        if ended is None:
            raise UnknownJob(f"job {job_id} was removed before it ended")
        return ended

    async def counts(self) -> Counts:
        return self._table.counts()

    async def next_due(self) -> Job | None:
        return self._dispatcher.next_due()

    def subscribe(self, on_change: OnChange, on_removal: OnRemoval | None = None) -> Unsubscribe:
        return self._subscribers.subscribe(on_change, on_removal)

    # Nobody shares a directory

    def runs_elsewhere(self, job: Job) -> bool:
        return False

    async def pools(self) -> list[PoolInfo]:
        return []

    async def stop_pools(self, runs: Sequence[str], *, now: bool, leave_running: bool) -> None:
        raise InvalidRequest("a directory has one pool: aqueue worker stop")

    # In memory

    @property
    def _dispatcher(self) -> Dispatcher:
        """Made when it is first needed: a command that only adds a job does without."""
        if self._dispatching is None:
            self._dispatching = Dispatcher(self._table.by_id, self._queues)
        return self._dispatching

    def _known(self, job_id: str) -> Job:
        job = self._table.by_id.get(job_id)
        if job is None:
            raise UnknownJob(f"no job has the id {job_id!r}" + self._ids.removal_note(job_id))
        return job

    def _change(self, before: Job | None, after: Job | None) -> None:
        """Put `after` in the place of `before`, and in line if it waits."""
        self._table.replace(before, after)
        if after is not None and after.state in WAITING_STATES and self._dispatching is not None:
            self._dispatching.put(after)

    async def _commit(self, job: Job) -> None:
        await self._journal.commit([job], partial(self._publish, job))

    async def _publish(self, job: Job, offset: int) -> None:
        self._outputs.mark_durable(job, offset)
        self._subscribers.publish_change(job)

    async def _publish_new(self, jobs: Sequence[Job], _: int) -> None:
        for part in slices(jobs):
            for job in part:
                self._change(None, job)
                self._subscribers.publish_change(job)
            await asyncio.sleep(0)

    async def _compact(self) -> None:
        """Write what is alive to a new journal and put it in the place of the old one."""
        moved: dict[int, int] = {}

        def snapshot() -> tuple[int, Iterator[Chunk]]:
            jobs = self._table.by_id.values()
            return self._ids.next_seq, compaction.snapshot(jobs, self._ids.removed, self._outputs, moved)

        covered, tail = await self._file.rewrite(snapshot, self._journal.quiet)
        self._outputs.relocate(moved, covered, tail)
