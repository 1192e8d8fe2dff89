"""The lease of a pool: what ends its commands when it has run out, so that no job ever runs twice at once.

When half of the lease has passed since the last heartbeat, the pool ends its commands itself. Where it cannot, because
it was killed or hangs, its watchdog does: a small process of its own, to which the pool writes how long it may wait.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from aqueue.attempts.files import AttemptFiles
from aqueue.attempts.orphans import disown
from aqueue.attempts.watchdog import find_commands
from aqueue.system import clock

_RESTART_DELAY = 1.0
"""Seconds; a watchdog that ends sooner is started again only after so long."""


class Lease:
    """Ends the commands of a pool in time, unless it is renewed."""

    def __init__(self, folder: Path, seconds: float, kill_after: float) -> None:
        """`folder` is where the pool keeps its files; `kill_after` in seconds."""
        self.end_commands: Callable[[str], None] = lambda reason: None
        self._folder = folder
        self.seconds = seconds
        self._kill_after = min(kill_after, seconds / 6)
        self._renewed_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._watchdog: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Keep a watchdog running, and look at the clock when the machine wakes, until this is cancelled."""
        changes = clock.open_clock_watch()
        if changes is not None:
            asyncio.get_running_loop().add_reader(changes, self._on_clock_change, changes)
        try:
            await self._keep_watchdog()
        finally:
            if changes is not None:
                asyncio.get_running_loop().remove_reader(changes)
                os.close(changes)

    async def _keep_watchdog(self) -> None:
        while True:
            began = clock.monotonic()
            self._watchdog = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "aqueue.attempts.watchdog", str(self._folder)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            self._send_deadline()
            await self._watchdog.wait()
            if clock.monotonic() < began + _RESTART_DELAY:
                await asyncio.sleep(_RESTART_DELAY)

    def renew(self, sent_at: float) -> None:
        """A heartbeat that was sent at `sent_at`, by `clock.monotonic`, has been written."""
        self._renewed_at = max(sent_at, self._renewed_at)
        if self._timer is not None:
            self._timer.cancel()
        wait = self._renewed_at + self.seconds / 2 - clock.monotonic()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, wait), self._expire)
        self._send_deadline()

    def is_valid(self) -> bool:
        """Whether a command may be started."""
        return clock.monotonic() < self._renewed_at + self.seconds / 2

    async def close(self, *, holds_jobs: bool) -> None:
        """The pool ends. Its watchdog stays where commands go on without it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watchdog is None:
            return
        assert self._watchdog.stdin is not None
        watchdog_stays = holds_jobs and bool(find_commands(AttemptFiles(self._folder, 0)))
        with contextlib.suppress(OSError):
            if not watchdog_stays:
                self._watchdog.stdin.write(b"done\n")
            self._watchdog.stdin.close()
        if watchdog_stays:
            disown(self._watchdog)
        else:
            await self._watchdog.wait()

    def _on_clock_change(self, changes: int) -> None:
        """The timer stood still while the machine slept."""
        clock.rearm_clock_watch(changes)
        if self._timer is not None:
            self._expire()

    def _expire(self) -> None:
        if self.is_valid():  # the machine slept less than the timer did
            self.renew(self._renewed_at)
        else:
            self.end_commands(f"interrupted: the database could not be reached for {self.seconds / 2:g} s")

    def _send_deadline(self) -> None:
        """Tell the watchdog when to act: at two thirds of the lease, so that all is over well before its end."""
        if self._watchdog is not None and self._watchdog.stdin is not None and self._renewed_at > 0:
            deadline = self._renewed_at + self.seconds * 2 / 3
            with contextlib.suppress(OSError):
                self._watchdog.stdin.write(f"{deadline} {self._kill_after}\n".encode())
