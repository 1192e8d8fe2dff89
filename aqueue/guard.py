"""The guard of a pool on a database: it ends the pool's commands when the pool's lease is about to run out.

    python -m aqueue.guard FOLDER

A process of its own, because it is for the moment in which the pool is dead or hangs. On stdin the pool writes lines
`UNTIL KILL_AFTER`: commands are ended when `UNTIL` has come, in seconds of `platform.uptime`, with SIGTERM and
`KILL_AFTER` seconds later SIGKILL. `done` sends the guard home. When the pool is gone, the guard waits for that
moment all the same; if a next pool has the folder by then, the commands are that one's.
"""

import os
import select
import sys
import time
from pathlib import Path

from aqueue import platform

_LOOK_AGAIN = 0.05
"""Seconds between two looks at whether what was ended is gone."""


def watch(folder: Path, pool: int) -> None:
    """Wait for what the pool says on descriptor `pool`, and act when its time is up."""
    until, kill_after = float("inf"), 0.0
    text = ""
    alone = False
    while True:
        wait = max(0.0, until - platform.uptime())
        if alone:
            time.sleep(wait)
        elif select.select([pool], [], [], None if wait == float("inf") else wait)[0]:
            data = os.read(pool, 65536)
            alone = not data
            *lines, text = (text + data.decode()).split("\n")
            if "done" in lines:
                return
            if lines:
                until, kill_after = map(float, lines[-1].split())
            elif alone and until == float("inf"):
                return
            continue
        if platform.uptime() < until:
            continue
        if alone and _has_new_pool(folder):
            return
        end_commands(folder, kill_after)
        if alone:
            return
        until = float("inf")


def end_commands(folder: Path, kill_after: float) -> None:
    """End every command of the pools that had `folder`: SIGTERM, and SIGKILL after so many seconds."""
    deadline = platform.uptime() + kill_after
    number = platform.TERMINATE
    while groups := _groups(folder):
        for group in groups:
            platform.signal_group(group, number)
        if number == platform.TERMINATE:
            while platform.uptime() < deadline and _groups(folder):
                time.sleep(_LOOK_AGAIN)
            number = platform.KILL
        time.sleep(_LOOK_AGAIN)


def _groups(folder: Path) -> set[int]:
    """The process groups of what runs of the attempts of `folder`."""
    from aqueue.files import Files
    from aqueue.survivors import survivors

    files = Files(folder, 0)
    groups = set()
    for token, alive in survivors().items():
        if files.known(token) is not None and alive.shell is not None:
            for pid in alive.processes:
                try:
                    groups.add(os.getpgid(pid))
                except ProcessLookupError:
                    continue
    return groups


def _has_new_pool(folder: Path) -> bool:
    lock = platform.try_lock(folder / "lock")
    if lock is not None:
        os.close(lock)
    return lock is None


if __name__ == "__main__":
    watch(Path(sys.argv[1]), 0)
