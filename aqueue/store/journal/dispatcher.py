"""Hands jobs that are due to idle workers: one is woken when a job can start, and none looks in vain.

The one timer is the event loop's, and is set anew when the wall clock is set or the machine has slept.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Mapping

from aqueue.jobs.job import Job
from aqueue.store.journal.priority_queue import PriorityQueue
from aqueue.system import clock

_CLOCK_STEP = 0.005
"""Seconds by which the clocks must part for the wall clock to count as set."""
_CLOSE = 0.0001
"""Seconds by which a timer may be late, rather than being set anew for each job."""


class Dispatcher:
    """Gives each job that is due to one of those who wait for one."""

    def __init__(self, jobs: Mapping[str, Job], queues: frozenset[str]) -> None:
        """`jobs` and `queues` as for `PriorityQueue`."""
        self._loop = asyncio.get_running_loop()
        self._queue = PriorityQueue(jobs, queues)
        self._timer: asyncio.TimerHandle | None = None
        self._idle: deque[asyncio.Future[None]] = deque()
        self._clock_watch = clock.open_clock_watch()
        if self._clock_watch is not None:
            self._loop.add_reader(self._clock_watch, self._clocks_changed)
        self._offset = clock.monotonic() - time.time()
        self._queue.fill(*self._now())
        self._set_timer()

    def put(self, job: Job) -> None:
        """Put in a job that waits."""
        if self._queue.put(job, *self._now()):
            self._wake(1)
        else:
            self._set_timer()

    async def next(self, allowed: asyncio.Event) -> Job:
        """Take the next job that is due, while `allowed` is set."""
        while True:
            await allowed.wait()
            job = self._queue.pop()
            if job is not None:
                return job
            waiter = self._loop.create_future()
            self._idle.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake(1)  # it was this worker that was woken: wake the next
                raise

    def next_due(self) -> Job | None:
        """The job that waits for its time and comes first."""
        later = self._queue.peek_later(*self._now())
        return None if later is None else later[1]

    @property
    def idle(self) -> bool:
        """Whether no job can start now."""
        return self._queue.peek() is None

    def close(self) -> None:
        """Set no more timers."""
        if self._timer is not None:
            self._timer.cancel()
        if self._clock_watch is not None:
            self._loop.remove_reader(self._clock_watch)
            os.close(self._clock_watch)

    def _now(self) -> tuple[float, float]:
        """The wall clock's time and the monotonic clock's. Their difference changes only where the wall clock was
        set, so that jobs that are due together stay so."""
        now = time.time()
        offset = clock.monotonic() - now
        if abs(offset - self._offset) > _CLOCK_STEP:
            self._offset = offset
        return now, now + self._offset

    def _wake(self, count: int) -> None:
        """Let so many idle workers look at the queue."""
        while count and self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    def _set_timer(self) -> None:
        later = self._queue.peek_later(*self._now())
        if later is None:
            return
        at = self._loop.time() + later[0]
        if self._timer is not None:
            if self._timer.when() <= at + _CLOSE:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._start_due)

    def _start_due(self) -> None:
        """Wake workers for what is due now."""
        self._timer = None
        self._wake(self._queue.advance(*self._now()))
        self._set_timer()

    def _clocks_changed(self) -> None:
        """Start what is due now, and see anew how long the rest has to wait."""
        assert self._clock_watch is not None
        clock.rearm_clock_watch(self._clock_watch)
        if self._timer is not None:
            self._timer.cancel()
        self._start_due()
