"""What every store can do. What was awaited here is durable when it returns, or did not happen.

`Store` is what a command or a client needs: it asks and changes. `PoolStore` adds what only the pool that serves a
store needs: it claims jobs and settles their attempts.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol, Self

import msgspec

from aqueue.jobs.job import Job, Outcome, State
from aqueue.jobs.spec import NewJob
from aqueue.store.pool_info import PoolInfo
from aqueue.store.subscriptions import OnChange, OnRemoval, Unsubscribe

Counts = dict[str, dict[State, int]]
"""How many jobs there are, by queue and state."""


class Query(msgspec.Struct, frozen=True):
    """Which jobs, and in which order: by age, oldest first (`newest`: last first); no filter means all."""

    states: frozenset[State] = frozenset()
    queue: str | None = None
    tag: str | None = None
    seqs: frozenset[int] = frozenset()
    limit: int | None = None
    newest: bool = False
    output: bool = False
    finished_before: datetime | None = None

    def matches(self, job: Job) -> bool:
        """Whether `job` is one of them."""
        if self.states and job.state not in self.states:
            return False
        if self.queue is not None and job.queue != self.queue:
            return False
        if self.tag is not None and self.tag not in job.tags:
            return False
        if self.seqs and job.seq not in self.seqs:
            return False
        before = self.finished_before
        return before is None or (job.state.final and (job.updated_at or job.created_at) < before)

    @property
    def selective(self) -> bool:
        """Whether there are jobs that do not match."""
        return bool(self.states or self.queue or self.tag or self.seqs or self.finished_before)


class PoolControl(Protocol):
    """What a store that hosts share may ask of the pool that serves it, because another host asked for it."""

    @property
    def info(self) -> PoolInfo:
        """The pool, for the others to see."""
        ...

    def cancel_running(self, job_id: str) -> None:
        """End the command of a job that runs here: the job is cancelled."""
        ...

    def request_stop(self, *, now: bool = False, leave_running: bool = False) -> None:
        """Stop this pool."""
        ...

    def end_running(self, reason: str) -> None:
        """End what runs here: another pool is about to start it again."""
        ...


class Store(AbstractAsyncContextManager["Store"], Protocol):
    """Jobs, durably. Errors are those of `aqueue.errors`."""

    @property
    def trouble(self) -> str | None:
        """What keeps changes from being stored, while it does."""
        ...

    async def __aenter__(self) -> Self: ...

    async def add(self, specs: Iterable[NewJob], *, if_absent: bool = False) -> list[Job]:
        """Store new jobs, all or none. Raises `DuplicateJob` unless `if_absent`: then those stay as they are.

        A long batch is best an iterator that keeps no spec which it has handed out.
        """
        ...

    async def import_jobs(self, jobs: Sequence[Job]) -> list[Job]:
        """Store jobs that come from another store, as they are but with new sequence numbers; all or none."""
        ...

    async def get(self, job_id: str) -> Job:
        """The job with its output. Raises `UnknownJob`."""
        ...

    def find(self, query: Query) -> AsyncIterator[list[Job]]:
        """The jobs that match, some at a time."""
        ...

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job that waits. Raises `UnknownJob`, `InvalidRequest`."""
        ...

    async def retry(self, job_id: str) -> Job:
        """Put a dead or cancelled job back with a full budget. Raises `UnknownJob`, `InvalidRequest`."""
        ...

    async def remove(self, job_ids: Sequence[str]) -> list[Job]:
        """Forget jobs, none of which may be running. Raises `UnknownJob`, `InvalidRequest`."""
        ...

    async def wait(self, job_id: str) -> Job:
        """The job, with its output, once it has ended. Raises `UnknownJob`, also if it is removed meanwhile, and
        `PoolGone` if the store is closed before."""
        ...

    async def counts(self) -> Counts: ...

    async def next_due(self) -> Job | None:
        """The job that waits for its time and comes first."""
        ...

    async def pools(self) -> list[PoolInfo]:
        """The pools of all hosts, where hosts share the store."""
        ...

    async def stop_pools(self, runs: Sequence[str], *, now: bool, leave_running: bool) -> None:
        """Stop the pools of any host whose `PoolInfo.run` is one of `runs`, and return when they are gone."""
        ...

    def runs_elsewhere(self, job: Job) -> bool:
        """Whether `job`, which is processing, is run by a pool that has to be asked through the store."""
        ...

    def subscribe(self, on_change: OnChange, on_removal: OnRemoval | None = None) -> Unsubscribe:
        """Call `on_change` with each job after each durable change of state, `on_removal` with the id of each that
        was removed."""
        ...


class PoolStore(Store, Protocol):
    """A store that is opened by the pool which serves it."""

    run_id: str
    """Names this opening of the store among all others; the first part of every attempt's token."""
    max_interruptions: int
    """A job that was interrupted so many times is dead."""

    async def __aenter__(self) -> Self: ...

    def attach(self, pool: PoolControl) -> None:
        """Let `pool` be what the store asks where another host wants something of the pool that serves it."""
        ...

    async def claim(self, worker: int) -> Job:
        """Wait for the next job that is due, and claim it for worker slot `worker`."""
        ...

    async def settle(self, job: Job, outcome: Outcome) -> Job:
        """The attempt that `claim` began is over. Subscribers are called once that is durable."""
        ...

    async def flush(self) -> None:
        """Return once everything that was settled is durable. Raises `StoreError` if that cannot be now."""
        ...

    def orphaned_jobs(self) -> AsyncIterator[list[Job]]:
        """The jobs that an earlier pool of this host left in `processing`."""
        ...

    async def wait_drained(self) -> None:
        """Return when no job of the served queues is due, running or waiting for a retry."""
        ...

    async def prune(self, before: datetime, on_removal: Callable[[Job], None]) -> datetime | None:
        """Remove jobs that were completed or cancelled before that time, calling `on_removal` with each. Return when
        the first of those that stay ended."""
        ...
