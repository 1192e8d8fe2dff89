"""An attempt that runs: how it is ended, when its time is up, and why."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from anyio import CancelScope

from aqueue.jobs.job import Job
from aqueue.system import KILL, TERMINATE, signal_group


class RunningAttempt:
    """An attempt whose command this pool started or adopted; `group` is its process group, None until it has one."""

    def __init__(self, job: Job, kill_after: float) -> None:
        """`kill_after`: seconds between SIGTERM and SIGKILL."""
        self.job = job
        self.group: int | None = None
        self.end_reason: str | None = None
        """Why it is being ended; None while it may run on."""
        self.interrupted = False
        self.cancelled = False
        self.waiting = CancelScope()
        """Encloses the wait for the end of the command; it is cancelled to leave the command running."""
        self._began = asyncio.get_running_loop().time()
        self._kill_after = kill_after
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def token(self) -> str:
        """Names the attempt."""
        return self.job.history[-1].token

    def started(self, group: int, time_left: float | None) -> None:
        """The command runs as process group `group`; end it after `time_left` seconds."""
        self.group = group
        if self.end_reason is not None:  # that was asked for while the command was being started
            self._terminate()
        if time_left is not None:
            reason = f"time limit of {self.job.timeout:g} s exceeded"
            self._after(time_left, lambda: self.end(reason))

    def end(self, reason: str, *, interrupted: bool = False, cancelled: bool = False) -> None:
        """Send SIGTERM to the process group, and SIGKILL `kill_after` seconds later.

        The first reason counts, but a job that is cancelled while its command is being ended is cancelled all the same.
        """
        if cancelled and self.end_reason is not None:
            self.cancelled, self.interrupted = True, False
        if self.end_reason is None:
            self.end_reason, self.interrupted, self.cancelled = reason, interrupted, cancelled
            if self.group is not None:
                self._terminate()

    def kill(self) -> None:
        """Send SIGKILL to the process group."""
        if self.group is not None:
            signal_group(self.group, KILL)

    def leave_running(self) -> None:
        """Stop waiting for the command: a later pool will adopt it."""
        self.waiting.cancel()

    def stop_timers(self) -> None:
        """The command has ended, or is left running."""
        for timer in self._timers:
            timer.cancel()

    @property
    def ended_at(self) -> datetime:
        """When it ended, if that is now: its start and the time since by the monotonic clock, so that a wall clock
        that was set meanwhile does not change how long it took."""
        took = asyncio.get_running_loop().time() - self._began
        return self.job.history[-1].started_at + timedelta(seconds=took)

    def _terminate(self) -> None:
        assert self.group is not None
        signal_group(self.group, TERMINATE)
        self._after(self._kill_after, self.kill)

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(max(0.0, seconds), action))
