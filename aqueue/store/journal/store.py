"""The jobs of a directory: in memory what decides, in the journal every change.

A change is made in memory, written, and made known once it is durable; new jobs appear only then. Whoever opens the
store holds its lock, so there is one owner at a time. Output is not kept in memory but read from the journal.
"""

import asyncio
import itertools
import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from aqueue.errors import InvalidRequest, PoolRunning, StoreError, UnknownJob
from aqueue.jobs import lifecycle
from aqueue.jobs.job import WAITING_STATES, Job, Outcome, State, utc_now
from aqueue.jobs.spec import NewJob
from aqueue.store.ids import Ids, Reservation, made_id
from aqueue.store.journal.compaction import SLICE, batches, slices
from aqueue.store.journal.dispatcher import Dispatcher
from aqueue.store.journal.file import Batch, Journal
from aqueue.store.journal.outputs import OutputIndex, without
from aqueue.store.journal.records import Removed, Together, encode
from aqueue.store.journal.writer import Entry, Writer
from aqueue.store.pool_info import PoolInfo
from aqueue.store.protocol import Counts, PoolControl, Query
from aqueue.store.subscriptions import OnChange, OnRemoval, Subscribers, Unsubscribe
from aqueue.system.posix import private_directory, try_lock

_log = logging.getLogger("aqueue.store.journal")


class JournalStore:
    """See `aqueue.store.protocol.PoolStore`."""

    def __init__(self, path: Path, *, max_interruptions: int = 5, queues: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.run_id = os.urandom(5).hex()
        self._queues = queues
        self.max_interruptions = max_interruptions
        self._jobs: dict[str, Job] = {}
        self._counts: Counts = defaultdict(lambda: dict.fromkeys(State, 0))
        self._subscribers = Subscribers()
        self._journal = Journal(path / "jobs.jsonl")
        self._ids = Ids(self._jobs, set(), 1)
        self._outputs = OutputIndex(self._journal.read_line, {})
        self._writer = Writer(
            self._journal,
            committed=self._committed,
            compact=self._compact,
            alive=lambda: len(self._jobs),
        )
        self._scheduled: Dispatcher | None = None
        self._lock = -1

    @property
    def _schedule(self) -> Dispatcher:
        """Made when somebody wants to know what is next: a command that only adds a job does not."""
        if self._scheduled is None:
            self._scheduled = Dispatcher(self._jobs, self._queues)
        return self._scheduled

    @property
    def trouble(self) -> str | None:
        return self._writer.trouble

    async def __aenter__(self) -> Self:
        private_directory(self.path)
        lock = try_lock(self.path / "lock")
        if lock is None:
            raise PoolRunning(f"another process holds the store {self.path}")
        self._lock = lock
        try:
            contents = await self._journal.open()
        except BaseException:
            self._journal.close()
            os.close(lock)
            raise
        self._jobs = contents.jobs
        self._ids = Ids(self._jobs, contents.removed, contents.next_seq)
        self._outputs = OutputIndex(self._journal.read_line, contents.outputs)
        for job in self._jobs.values():
            self._counts[job.queue][job.state] += 1
        if contents.torn:
            _log.info("the end of the journal was torn by a crash; it is kept in %s", contents.torn)
        self._writer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._scheduled is not None:
            self._scheduled.close()
        try:
            await self._writer.close()
        finally:
            self._subscribers.close()
            self._journal.close()
            os.close(self._lock)

    # Subscription

    async def add(self, specs: Sequence[NewJob], *, if_absent: bool = False) -> list[Job]:
        names = [spec.id for spec in specs if spec.id is not None]
        if if_absent:
            await self._ids.unreserved(names)  # somebody is just adding one of them
        existing = self._ids.check_free(names, if_absent=if_absent)
        now = utc_now()
        with self._ids.reserve(set(names) - existing) as reserved:
            made = []
            for spec in specs:
                if spec.id is not None and spec.id in existing:
                    continue
                seq = self._ids.take_seq()
                name = spec.id or self._ids.new_id(seq)
                reserved.add(name)
                made.append(lifecycle.new_job(spec, job_id=name, seq=seq, now=now))
                if len(made) % SLICE == 0:
                    await asyncio.sleep(0)
            await self._store_new(made, reserved)
        if not existing:
            return made
        fresh = iter(made)
        return [await self.get(spec.id) if spec.id and spec.id in existing else next(fresh) for spec in specs]

    async def import_jobs(self, records: Sequence[Job]) -> list[Job]:
        names = [record.id for record in records]
        self._ids.check_free(names)
        made = [replace(record, seq=self._ids.take_seq()) for record in records]
        with self._ids.reserve(names) as reserved:
            await self._store_new([without(job) for job in made], reserved)
        for part in slices([job for job in made if job.stdout or job.stderr]):
            await asyncio.gather(*(self._writer.write([encode(job)], [job]) for job in part))
        return made

    async def _store_new(self, made: list[Job], reserved: Reservation) -> None:
        """Write new jobs, all or none; they are seen when they are durable. Their ids stay reserved until then,
        also if whoever asked for them has gone."""
        lines = [encode(Together(len(made)))] if len(made) > 1 else []
        for part in slices(made):
            lines += [encode(job) for job in part]
            await asyncio.sleep(0)
        if made:
            await self._writer.write(lines, made, new=True, over=reserved.hand_over())

    async def claim(self, worker: int) -> Job:
        while True:
            job = await self._schedule.next(self._writer.healthy)
            token = f"{self.run_id}.{worker}.{job.seq}-{len(job.history) + 1}"
            taken = lifecycle.claimed(job, worker=worker, token=token, now=utc_now())
            self._change(job, taken)
            try:
                # A claim need not survive a power cut, which ends its command too.
                await self._writer.write([encode(taken)], [taken], early=True)
            except StoreError:
                self._change(taken, job)
            except asyncio.CancelledError:
                self._change(taken, job)
                back = self._outputs.of(job)
                self._writer.promise([encode(back)], [back])
                raise
            else:
                return taken

    async def settle(self, job: Job, outcome: Outcome) -> Job:
        ended = lifecycle.settled(job, outcome, now=utc_now(), max_interruptions=self.max_interruptions)
        self._change(self._known(job.id), self._outputs.hold(ended))
        self._writer.promise([encode(ended)], [ended], urgent=self._subscribers.is_awaited(job.id))
        return ended

    async def cancel(self, name: str) -> Job:
        return await self._steer(name, lifecycle.cancelled)

    async def retry(self, name: str) -> Job:
        return await self._steer(name, lifecycle.retried)

    async def _steer(self, name: str, rule: Callable[..., Job]) -> Job:
        """Change a job by one of the rules of `aqueue.jobs.lifecycle`; taken back if it cannot be written."""
        before = self._known(name)
        after = rule(self._outputs.of(before), now=utc_now())
        seen = without(after)
        self._change(before, seen)
        try:
            await self._writer.write([encode(after)], [after])
        except StoreError:
            if self._jobs.get(name) is seen:
                self._change(seen, before)
                self._writer.promise([encode(self._outputs.of(before))])  # a compaction may have written `seen`
            raise
        return after

    async def remove(self, names: Sequence[str]) -> list[Job]:
        gone = [self._known(name) for name in dict.fromkeys(names)]
        for job in gone:
            lifecycle.check_removable(job)
        for job in gone:
            self._change(job, None)
            self._ids.removed.add(job.id)
        try:
            await self._writer.write([encode(Removed(job.id)) for job in gone])
        except StoreError:
            for job in gone:
                self._ids.removed.discard(job.id)
                self._change(None, job)
                self._writer.promise([encode(self._outputs.of(job))])
            raise
        for job in gone:
            self._outputs.forget(job)
            self._subscribers.publish_removal(job.id)
        return gone

    async def flush(self) -> None:
        await self._writer.write([encode(Together(0))])

    # Questions

    async def get(self, name: str) -> Job:
        return self._outputs.of(self._known(name))

    async def find(self, query: Query) -> AsyncIterator[list[Job]]:
        values = reversed(self._jobs.values()) if query.newest else iter(self._jobs.values())
        left = len(self._jobs) if query.limit is None else min(query.limit, len(self._jobs))
        candidates = list(values if query.selective else itertools.islice(values, left))
        for part in slices(candidates):
            found = [job for job in part if query.matches(job)][:left]
            left -= len(found)
            if found:
                yield [self._outputs.of(job) for job in found] if query.output else found
            if left <= 0:
                return
            await asyncio.sleep(0)

    async def wait(self, name: str) -> Job:
        job = self._known(name)
        if job.state.final and job.seq not in self._outputs.held:
            return self._outputs.of(job)
        ended = await self._subscribers.wait_for_end(name)
        if ended is None:
            raise UnknownJob(f"job {name} was removed before it ended")
        return ended

    async def counts(self) -> Counts:
        return {queue: dict(states) for queue, states in self._counts.items() if any(states.values())}

    async def next_due(self) -> Job | None:
        return self._schedule.next_due()

    def subscribe(self, on_change: OnChange, on_removal: OnRemoval | None = None) -> Unsubscribe:
        return self._subscribers.subscribe(on_change, on_removal)

    async def wait_drained(self) -> None:
        quiet = asyncio.Event()

        def look(_: Job | None) -> None:
            if self._settled_down():
                quiet.set()

        unsubscribe = self.subscribe(look, lambda _: look(None))
        try:
            look(None)
            await quiet.wait()
        finally:
            unsubscribe()

    async def prune(self, before: datetime, on_removal: Callable[[Job], None]) -> datetime | None:
        oldest: datetime | None = None
        states = frozenset({State.COMPLETED, State.CANCELLED})
        # With the limit, the search is over before it comes to a backlog that is behind them.
        count = sum(numbers[state] for numbers in self._counts.values() for state in states)
        async for part in self.find(Query(states=states, limit=count)):
            times = {job.id: job.updated_at or job.created_at for job in part}
            if min(times.values()) < before:
                for job in await self.remove([name for name, time in times.items() if time < before]):
                    if job.id == made_id(job.seq):
                        self._ids.removed.discard(job.id)  # there may be millions, and none is made twice
                    on_removal(job)
                    del times[job.id]
            oldest = min([*([oldest] if oldest else []), *times.values()], default=None)
        return oldest

    # Nobody shares a directory

    def orphaned_jobs(self) -> AsyncIterator[list[Job]]:
        return self.find(Query(states=frozenset({State.PROCESSING})))

    def runs_elsewhere(self, job: Job) -> bool:
        return False

    def attach(self, pool: PoolControl) -> None:
        """Nobody else asks anything of a directory's pool through the store."""

    async def pools(self) -> list[PoolInfo]:
        return []

    async def stop_pools(self, runs: Sequence[str], *, now: bool, leave_running: bool) -> None:
        raise InvalidRequest("a directory has one pool: aqueue worker stop")

    # In memory

    def _settled_down(self) -> bool:
        served = self._queues or self._counts
        active = any(self._counts[name][state] for name in served for state in (State.PROCESSING, State.FAILED))
        return not active and self._schedule.idle and not self._outputs.held

    def _known(self, name: str) -> Job:
        job = self._jobs.get(name)
        if job is None:
            raise UnknownJob(f"no job has the id {name!r}" + self._ids.fate(name))
        return job

    def _change(self, before: Job | None, after: Job | None) -> None:
        """Put `after` in the place of `before`."""
        if before is not None:
            self._counts[before.queue][before.state] -= 1
        if after is None:
            assert before is not None
            del self._jobs[before.id]
            return
        self._counts[after.queue][after.state] += 1
        self._jobs[after.id] = after
        if after.state in WAITING_STATES and self._scheduled is not None:
            self._scheduled.put(after)

    async def _committed(self, entry: Entry) -> None:
        """What the entry says is durable: make it known."""
        if entry.new:
            for part in slices(entry.changed):
                for job in part:
                    self._change(None, job)
                    self._subscribers.publish_change(job)
                await asyncio.sleep(0)
            return
        for job in entry.changed:
            self._outputs.written(job, entry.offset)
            self._subscribers.publish_change(job)

    async def _compact(self) -> None:
        """Write what is alive to a new journal and put it in the place of the old one."""
        moved: dict[int, int] = {}

        def snapshot() -> tuple[int, Iterator[Batch]]:
            return self._ids.next_seq, batches(self._jobs.values(), self._ids.removed, self._outputs, moved)

        covered, tail = await self._journal.rewrite(snapshot, self._writer.quiet)
        self._outputs.moved(moved, covered, tail)
