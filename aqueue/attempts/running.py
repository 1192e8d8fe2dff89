"""A command under way: how it is ended, when its time is up, and why."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from anyio import CancelScope

from aqueue.jobs.job import Job
from aqueue.system import KILL, TERMINATE, signal_group


class RunningAttempt:
    """A command under way, started by this pool or adopted; `group` is its process group."""

    def __init__(self, job: Job, kill_after: float) -> None:
        """`kill_after`: seconds between SIGTERM and SIGKILL."""
        self.job = job
        self._began = asyncio.get_running_loop().time()
        self.group: int | None = None
        self.ending: str | None = None
        self.interrupted = False
        self.cancelled = False
        self.left = CancelScope()
        self._kill_after = kill_after
        self._timers: list[asyncio.TimerHandle] = []

    def started(self, group: int, time_left: float | None) -> None:
        """The command runs as process group `group`; end it after `time_left` seconds."""
        self.group = group
        if self.ending is not None:  # asked for while it was being started
            self._terminate()
        if time_left is not None:
            reason = f"time limit of {self.job.timeout:g} s exceeded"
            self._after(time_left, lambda: self.end(reason))

    def end(self, reason: str, *, interrupted: bool = False, cancelled: bool = False) -> None:
        """Send SIGTERM to the process group, and SIGKILL `kill_after` seconds later. The first reason counts, but
        a job that is cancelled while its command is being ended is cancelled all the same."""
        if cancelled and self.ending is not None:
            self.cancelled, self.interrupted = True, False
        if self.ending is None:
            self.ending, self.interrupted, self.cancelled = reason, interrupted, cancelled
            if self.group is not None:
                self._terminate()

    @property
    def ended_at(self) -> datetime:
        """When it ended, if that is now: its start and the time since by the monotonic clock, so that a wall clock
        that was set meanwhile does not change how long it took."""
        took = asyncio.get_running_loop().time() - self._began
        return self.job.history[-1].started_at + timedelta(seconds=took)

    def kill(self) -> None:
        """Send SIGKILL to the process group."""
        if self.group is not None:
            signal_group(self.group, KILL)

    def leave(self) -> None:
        """Let the command run on, for a later pool to adopt."""
        self.left.cancel()

    def release(self) -> None:
        """Stop the clocks: the command has ended, or is left."""
        for timer in self._timers:
            timer.cancel()

    def _terminate(self) -> None:
        assert self.group is not None
        signal_group(self.group, TERMINATE)
        self._after(self._kill_after, self.kill)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(max(0.0, seconds), action))
