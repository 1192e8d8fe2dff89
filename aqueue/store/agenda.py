"""Which job is next: the highest priority, then the earliest due time, then age.

A pure data structure: it is told the time and never asks for it. Jobs that are not due yet wait in a heap of
their own, by a steady clock: how long a job waits is settled when it is put in, and a wall clock that is set
forward or back meanwhile neither starts it early nor forgets it. An entry is not searched for when its job
changes: it no longer matches the job and is skipped.
"""

import math
from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from aqueue.job import WAITING_STATES, Job

_Ready = tuple[int, float, int, str]
_Later = tuple[float, int, str, float]


class Agenda:
    """The waiting jobs of some queues (all queues if none is named), in the order in which they start."""

    def __init__(self, jobs: Mapping[str, Job], queues: frozenset[str] = frozenset()) -> None:
        """`jobs` is the store's own mapping from id to job, which the agenda reads to know what still holds."""
        self._jobs = jobs
        self._queues = queues
        self._ready: list[_Ready] = []
        self._later: list[_Later] = []

    def fill(self, now: float, clock: float) -> None:
        """Take in every waiting job of the mapping. `now` is a POSIX timestamp, `clock` the steady clock's time
        at that moment; both in seconds."""
        for job in self._jobs.values():
            if job.state in WAITING_STATES and (not self._queues or job.queue in self._queues):
                due = job.due_at.timestamp()
                if job.run_at is None or due <= now:
                    self._ready.append((-job.priority, due, job.seq, job.id))
                else:
                    self._later.append((_steady(due, now, clock), job.seq, job.id, due))
        heapify(self._ready)
        heapify(self._later)

    def put(self, job: Job, now: float, clock: float) -> bool:
        """Take in a waiting job; True if it can start now."""
        if self._queues and job.queue not in self._queues:
            return False
        due = job.due_at.timestamp()
        if job.run_at is None or due <= now:
            heappush(self._ready, (-job.priority, due, job.seq, job.id))
            return True
        heappush(self._later, (_steady(due, now, clock), job.seq, job.id, due))
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

    def advance(self, clock: float) -> int:
        """Let the jobs start that have become due by the steady clock's time `clock`; return how many."""
        moved = 0
        while self._later and self._later[0][0] <= clock:
            _, seq, name, due = heappop(self._later)
            job = self._current(seq, name, due)
            if job is not None:
                heappush(self._ready, (-job.priority, due, seq, name))
                moved += 1
        return moved

    def peek_later(self) -> tuple[float, Job] | None:
        """The job that becomes due next, and when, by the steady clock."""
        while self._later:
            at, seq, name, due = self._later[0]
            job = self._current(seq, name, due)
            if job is not None:
                return at, job
            heappop(self._later)
        return None

    def _current(self, seq: int, name: str, due: float) -> Job | None:
        job = self._jobs.get(name)
        if job is not None and job.seq == seq and job.state in WAITING_STATES and job.due_at.timestamp() == due:
            return job
        return None


def _steady(due: float, now: float, clock: float) -> float:
    """`due` by the steady clock, to the tenth of a millisecond: jobs that are due together stay so."""
    return math.ceil((due + (clock - now)) * 10_000) / 10_000
