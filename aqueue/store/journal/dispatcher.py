"""Idle workers and the one timer: whoever waits for a job is woken when one can start, and nobody looks in vain.

The timer is the event loop's, and is set anew when the wall clock is set or the machine has slept.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Mapping

from aqueue.jobs.job import Job
from aqueue.store.journal.priority_queue import PriorityQueue
from aqueue.system import clock

_CLOCK_SET = 0.005
"""Seconds by which the clocks must part for the wall clock to count as set."""
_CLOSE = 0.0001
"""Seconds by which a timer may be late, rather than being set anew for each job."""


class Dispatcher:
    """Hands the jobs of an agenda to those who wait for them."""

    def __init__(self, jobs: Mapping[str, Job], queues: frozenset[str]) -> None:
        """`jobs` and `queues` as for `PriorityQueue`."""
        self._loop = asyncio.get_running_loop()
        self._agenda = PriorityQueue(jobs, queues)
        self._timer: asyncio.TimerHandle | None = None
        self._idle: deque[asyncio.Future[None]] = deque()
        self._changes = clock.open_clock_watch()
        if self._changes is not None:
            self._loop.add_reader(self._changes, self._clocks_changed)
        self._offset = clock.monotonic() - time.time()
        self._agenda.fill(*self._now())
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
        later = self._agenda.peek_later(*self._now())
        return None if later is None else later[1]

    @property
    def idle(self) -> bool:
        """Whether no job can start now."""
        return self._agenda.peek() is None

    def close(self) -> None:
        """Set no more timers."""
        if self._timer is not None:
            self._timer.cancel()
        if self._changes is not None:
            self._loop.remove_reader(self._changes)
            os.close(self._changes)

    def _now(self) -> tuple[float, float]:
        """The wall clock's time and the monotonic clock's. Their difference changes only where the wall clock was
        set, so that jobs that are due together stay so."""
        now = time.time()
        offset = clock.monotonic() - now
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
        later = self._agenda.peek_later(*self._now())
        if later is None:
            return
        at = self._loop.time() + later[0]
        if self._timer is not None:
            if self._timer.when() <= at + _CLOSE:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._wake(self._agenda.advance(*self._now()))
        self._set_timer()

    def _clocks_changed(self) -> None:
        """Start what is due now, and see anew how long the rest has to wait."""
        assert self._changes is not None
        clock.rearm_clock_watch(self._changes)
        if self._timer is not None:
            self._timer.cancel()
        self._ring()
