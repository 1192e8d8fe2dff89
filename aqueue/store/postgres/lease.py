"""What keeps a command from running on when its pool's lease has run out, so that it never runs twice at once.

Half a lease after the last heartbeat the pool ends its commands itself. Where it cannot, because it was killed or
hangs, its guard does: a small process of its own, to which the pool writes how long it has.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from aqueue.attempts.files import AttemptFiles
from aqueue.attempts.orphans import disown
from aqueue.attempts.watchdog import commands
from aqueue.system import clock

_SHORT_LIFE = 1.0
"""Seconds; a guard that ends sooner is started again only after so long."""


class Lease:
    """Ends the commands of a pool in time, unless its lease is renewed."""

    def __init__(self, folder: Path, lease: float, kill_after: float) -> None:
        """`folder` is where the pool keeps its files; `lease` and `kill_after` in seconds."""
        self.end_commands: Callable[[str], None] = lambda reason: None
        self._folder = folder
        self._lease = lease
        self._kill_after = min(kill_after, lease / 6)
        self._renewed = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._guard: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Keep a guard, and look at the clock when the machine wakes, until this is cancelled."""
        changes = clock.open_clock_watch()
        if changes is not None:
            asyncio.get_running_loop().add_reader(changes, self._clocks_changed, changes)
        try:
            await self._keep_guard()
        finally:
            if changes is not None:
                asyncio.get_running_loop().remove_reader(changes)
                os.close(changes)

    async def _keep_guard(self) -> None:
        while True:
            began = clock.monotonic()
            self._guard = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "aqueue.attempts.watchdog", str(self._folder)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            self._tell_guard()
            await self._guard.wait()
            if clock.monotonic() < began + _SHORT_LIFE:
                await asyncio.sleep(_SHORT_LIFE)

    def renew(self, beat: float) -> None:
        """A heartbeat that was sent at `beat`, by `clock.monotonic`, has been written."""
        self._renewed = max(beat, self._renewed)
        if self._timer is not None:
            self._timer.cancel()
        wait = self._renewed + self._lease / 2 - clock.monotonic()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, wait), self._time_is_up)
        self._tell_guard()

    def holds(self) -> bool:
        """Whether there is time enough to start a command."""
        return clock.monotonic() < self._renewed + self._lease / 2

    async def close(self, *, held: bool) -> None:
        """The pool ends, and holds jobs or not. Its guard stays where commands go on without it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        guard_stays = held and bool(commands(AttemptFiles(self._folder, 0)))
        with contextlib.suppress(OSError):
            if not guard_stays:
                self._guard.stdin.write(b"done\n")
            self._guard.stdin.close()
        if guard_stays:
            disown(self._guard)
        else:
            await self._guard.wait()

    def _clocks_changed(self, changes: int) -> None:
        """The timer stood still while the machine slept."""
        clock.rearm_clock_watch(changes)
        if self._timer is not None:
            self._time_is_up()

    def _time_is_up(self) -> None:
        if self.holds():  # the machine slept less than the timer did
            self.renew(self._renewed)
        else:
            self.end_commands(f"interrupted: the database could not be reached for {self._lease / 2:g} s")

    def _tell_guard(self) -> None:
        """Until when the guard waits: two thirds of the lease, so that all is over well before its end."""
        if self._guard is not None and self._guard.stdin is not None and self._renewed > 0:
            with contextlib.suppress(OSError):
                self._guard.stdin.write(f"{self._renewed + self._lease * 2 / 3} {self._kill_after}\n".encode())
