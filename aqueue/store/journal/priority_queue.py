"""Which job is next: the highest priority, then the earliest due time, then age.

A pure data structure: it is told the time and never asks for it. Jobs that are not due yet are in two heaps. A wait
(a delay, or the pause before a retry) ends by a monotonic clock: a wall clock that is set meanwhile makes it neither
shorter nor longer. A time that was asked for comes when the wall clock says so. An entry is not searched for when
its job changes: it no longer matches the job and is skipped.
"""

import math
from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from aqueue.jobs.job import WAITING_STATES, Job

_Ready = tuple[int, float, int, str]
_Later = tuple[float, int, str, float]


class PriorityQueue:
    """The waiting jobs of some queues (all queues if none is named), in the order in which they start."""

    def __init__(self, jobs: Mapping[str, Job], queues: frozenset[str] = frozenset()) -> None:
        """`jobs` is the store's own mapping from id to job, which the agenda reads to know what still holds."""
        self._jobs = jobs
        self._queues = queues
        self._ready: list[_Ready] = []
        self._waits: list[_Later] = []
        """What becomes due by the monotonic clock."""
        self._times: list[_Later] = []
        """What becomes due by the wall clock."""

    def fill(self, now: float, clock: float) -> None:
        """Take in every waiting job of the mapping. `now` is a POSIX timestamp, `clock` the monotonic clock's time
        at that moment; both in seconds."""
        for job in self._jobs.values():
            if job.state in WAITING_STATES and (not self._queues or job.queue in self._queues):
                if job.run_at is None:
                    self._ready.append((-job.priority, job.created_at.timestamp(), job.seq, job.id))
                else:
                    self._place(job, now, clock)
        heapify(self._ready)

    def put(self, job: Job, now: float, clock: float) -> bool:
        """Take in a waiting job; True if it can start now."""
        return (not self._queues or job.queue in self._queues) and self._place(job, now, clock)

    def _place(self, job: Job, now: float, clock: float) -> bool:
        due, wait = job.due_at.timestamp(), job.wait
        left = due - now if wait is None else min(due - now, wait)  # the wall clock may have been set back since
        if left <= 0:
            heappush(self._ready, (-job.priority, due, job.seq, job.id))
            return True
        if wait is None:
            heappush(self._times, (due, job.seq, job.id, due))
        else:
            heappush(self._waits, (_rounded(left + clock), job.seq, job.id, due))
        return False

    def peek(self) -> Job | None:
        """The job to start now, if there is one."""
        while self._ready:
            _, due, seq, name = self._ready[0]
            job = self._current(seq, name, due)
            if job is not None:
                return job
            heappop(self._ready)
        return None

    def pop(self) -> Job | None:
        """Take out the job to start now, if there is one."""
        job = self.peek()
        if job is not None:
            heappop(self._ready)
        return job

    def advance(self, now: float, clock: float) -> int:
        """Let the jobs start that are due at this time by the wall clock and by the monotonic one; return how many."""
        moved = 0
        for heap, time in ((self._waits, clock), (self._times, now)):
            while heap and heap[0][0] <= time:
                _, seq, name, due = heappop(heap)
                job = self._current(seq, name, due)
                if job is not None:
                    heappush(self._ready, (-job.priority, due, seq, name))
                    moved += 1
        return moved

    def peek_later(self, now: float, clock: float) -> tuple[float, Job] | None:
        """In how many seconds the next job becomes due, unless a clock is changed, and which one it is."""
        first: tuple[float, Job] | None = None
        for heap, time in ((self._waits, clock), (self._times, now)):
            while heap:
                at, seq, name, due = heap[0]
                job = self._current(seq, name, due)
                if job is not None:
                    if first is None or at - time < first[0]:
                        first = (at - time, job)
                    break
                heappop(heap)
        return first

    def _current(self, seq: int, name: str, due: float) -> Job | None:
        job = self._jobs.get(name)
        if job is not None and job.seq == seq and job.state in WAITING_STATES and job.due_at.timestamp() == due:
            return job
        return None


def _rounded(time: float) -> float:
    """To the tenth of a millisecond, upward: jobs that are due together stay so."""
    return math.ceil(time * 10_000) / 10_000
