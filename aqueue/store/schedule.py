"""Idle workers and the one timer: whoever waits for a job is woken when one can start, and nobody looks in vain."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping

from aqueue.job import Job
from aqueue.store.agenda import Agenda

_CLOCK_SET = 0.005
"""Seconds by which the clocks must part for the wall clock to count as set."""


class Schedule:
    """Hands the jobs of an agenda to those who wait for them."""

    def __init__(self, jobs: Mapping[str, Job], queues: frozenset[str]) -> None:
        """`jobs` and `queues` as for `Agenda`."""
        self._loop = asyncio.get_running_loop()
        self._agenda = Agenda(jobs, queues)
        self._timer: asyncio.TimerHandle | None = None
        self._idle: deque[asyncio.Future[None]] = deque()
        self._offset = self._loop.time() - time.time()
        now, clock = self._now()
        self._agenda.fill(now, clock)
        self._set_timer()

    def put(self, job: Job) -> None:
        """Take in a job that waits."""
        if self._agenda.put(job, *self._now()):
            self._wake(1)
        else:
            self._set_timer()

    async def next(self, allowed: asyncio.Event) -> Job:
        """Take the next job that is due, while `allowed` is set."""
        while True:
            await allowed.wait()
            job = self._agenda.pop()
            if job is not None:
                return job
            turn = self._loop.create_future()
            self._idle.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake(1)  # it was this worker's turn: pass it on
                raise

    def next_due(self) -> Job | None:
        """The job that waits for its time and comes first."""
        later = self._agenda.peek_later()
        return None if later is None else later[1]

    @property
    def idle(self) -> bool:
        """Whether no job can start now."""
        return self._agenda.peek() is None

    def close(self) -> None:
        """Set no more timers."""
        if self._timer is not None:
            self._timer.cancel()

    def _now(self) -> tuple[float, float]:
        """The wall clock's time and the steady clock's. Their difference changes only where the wall clock was
        set, so that jobs that are due together stay so."""
        now = time.time()
        offset = self._loop.time() - now
        if abs(offset - self._offset) > _CLOCK_SET:
            self._offset = offset
        return now, now + self._offset

    def _wake(self, count: int) -> None:
        """Let so many idle workers look at the agenda."""
        while count and self._idle:
            turn = self._idle.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1

    def _set_timer(self) -> None:
        later = self._agenda.peek_later()
        if later is None or (self._timer is not None and self._timer.when() <= later[0]):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(later[0], self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._wake(self._agenda.advance(self._loop.time()))
        self._set_timer()
