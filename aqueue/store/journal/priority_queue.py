"""Which job is next: the highest priority, then the earliest due time, then age.

A pure data structure: it is given the time and never asks for it. Of a million jobs almost all come in the order in
which they will start, so they are in a few runs, each of which is in that order and costs one reference a job (see
patience sorting); only what fits at the end of no run goes into a heap.

Jobs that are not due yet are in two heaps. A wait (a delay, or the pause before a retry) ends by a monotonic clock: a
wall clock that is set meanwhile makes it neither shorter nor longer. A time that was asked for comes when the wall
clock says so. What is queued is not searched for when its job changes: it is skipped when its turn comes.
"""

import math
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from heapq import heappop, heappush

import msgspec

from aqueue.jobs.job import WAITING_STATES, Job

Order = tuple[int, float, int]
"""By what jobs that can start are ordered: negated priority, when they became due, sequence number."""
_MAX_RUNS = 16
"""Each claim looks at the first job of every run."""


class _Later(msgspec.Struct, frozen=True, order=True, gc=False):
    """A job that is not due yet. Compact, for there may be a million of them."""

    at: float
    """When it is due, by the clock of its heap."""
    seq: int
    id: str
    due_at: datetime


class _Run:
    """Jobs in the order in which they start."""

    def __init__(self, job: Job, order: Order) -> None:
        self.jobs = deque((job,))
        self.last = order


class PriorityQueue:
    """The waiting jobs of some queues (all queues if none is named), in the order in which they start."""

    def __init__(self, jobs: Mapping[str, Job], queues: frozenset[str] = frozenset()) -> None:
        """`jobs` is the store's own mapping from id to job, which says which jobs are still what they were."""
        self._jobs = jobs
        self._queues = queues
        self._runs: list[_Run] = []
        """Those whose last job starts later come first."""
        self._others: list[tuple[Order, str]] = []
        """The heap of what fits into no run."""
        self._waits: list[_Later] = []
        """What becomes due by the monotonic clock."""
        self._times: list[_Later] = []
        """What becomes due by the wall clock."""

    def fill(self, now: float, clock: float) -> None:
        """Put in every waiting job of the mapping. `now` is a POSIX timestamp, `clock` the monotonic clock's time at
        that moment; both in seconds."""
        queues = self._queues
        for job in self._jobs.values():
            if job.state in WAITING_STATES and (not queues or job.queue in queues):
                if job.run_at is None:
                    self._put_ready(job, job.created_at.timestamp())
                else:
                    self.put(job, now, clock)

    def put(self, job: Job, now: float, clock: float) -> bool:
        """Put in a waiting job; True if it can start now."""
        if self._queues and job.queue not in self._queues:
            return False
        due, wait = job.due_at.timestamp(), job.wait
        left = due - now if wait is None else min(due - now, wait)  # the wall clock may have been set back since
        if left <= 0:
            self._put_ready(job, due)
            return True
        if wait is None:
            heappush(self._times, _Later(due, job.seq, job.id, job.due_at))
        else:
            heappush(self._waits, _Later(_rounded(left + clock), job.seq, job.id, job.due_at))
        return False

    def _put_ready(self, job: Job, due: float) -> None:
        order = (-job.priority, due, job.seq)
        for run in self._runs:
            if run.last <= order:
                run.jobs.append(job)
                run.last = order
                return
        if len(self._runs) < _MAX_RUNS:
            self._runs.append(_Run(job, order))
        else:
            heappush(self._others, (order, job.id))

    def peek(self) -> Job | None:
        """The job to start now, if there is one."""
        first = self._first()
        return None if first is None else first[0]

    def pop(self) -> Job | None:
        """Take out the job to start now, if there is one."""
        first = self._first()
        if first is None:
            return None
        job, run = first
        if run is None:
            heappop(self._others)
        else:
            run.jobs.popleft()
        return job

    def _first(self) -> tuple[Job, _Run | None] | None:
        """The job to start now, and the run in which it is the first, if it is in one."""
        first: tuple[Job, _Run | None] | None = None
        for run in tuple(self._runs):
            job = self._first_of(run)
            if job is None:
                self._runs.remove(run)
            elif first is None or _order(job) < _order(first[0]):
                first = job, run
        other = self._first_other()
        if other is not None and (first is None or _order(other) < _order(first[0])):
            first = other, None
        return first

    def _first_of(self, run: _Run) -> Job | None:
        jobs = run.jobs
        while jobs:
            job = jobs[0]
            if self._jobs.get(job.id) is job:
                return job
            jobs.popleft()  # it has changed since
        return None

    def _first_other(self) -> Job | None:
        while self._others:
            order, job_id = self._others[0]
            job = self._jobs.get(job_id)
            if job is not None and job.state in WAITING_STATES and _order(job) == order:
                return job
            heappop(self._others)
        return None

    def advance(self, now: float, clock: float) -> int:
        """Let the jobs start that are due at this time by the wall clock and by the monotonic one; return how many."""
        moved = 0
        for heap, time in ((self._waits, clock), (self._times, now)):
            while heap and heap[0].at <= time:
                job = self._current(heappop(heap))
                if job is not None:
                    self._put_ready(job, job.due_at.timestamp())
                    moved += 1
        return moved

    def peek_later(self, now: float, clock: float) -> tuple[float, Job] | None:
        """In how many seconds the next job becomes due, unless a clock is changed, and which one it is."""
        first: tuple[float, Job] | None = None
        for heap, time in ((self._waits, clock), (self._times, now)):
            while heap:
                job = self._current(heap[0])
                if job is not None:
                    left = heap[0].at - time
                    if first is None or left < first[0]:
                        first = (left, job)
                    break
                heappop(heap)
        return first

    def _current(self, later: _Later) -> Job | None:
        """The job, unless it has changed."""
        job = self._jobs.get(later.id)
        if job is None or job.seq != later.seq or job.state not in WAITING_STATES or job.due_at != later.due_at:
            return None
        return job


def _order(job: Job) -> Order:
    return (-job.priority, job.due_at.timestamp(), job.seq)


def _rounded(time: float) -> float:
    """To the tenth of a millisecond, upward: jobs that are due together stay so."""
    return math.ceil(time * 10_000) / 10_000
