"""The watchdog of a pool on a database: it ends the pool's commands when the pool's lease is about to run out.

    python -m aqueue.attempts.watchdog FOLDER

It is a process of its own, for the moment in which the pool is dead or hangs. On stdin the pool writes lines
`DEADLINE KILL_AFTER`: at `DEADLINE`, in seconds of `clock.monotonic`, commands get SIGTERM, and `KILL_AFTER` seconds
later SIGKILL. After the line `done` the watchdog exits. When the pool is gone, the watchdog waits for its deadline all
the same; if by then the watchdog of a next pool, which has joined the others and so adopted the commands, has replaced
it, it leaves them to that one.
"""

import contextlib
import os
import select
import sys
import time
from collections.abc import Collection
from pathlib import Path

from aqueue import layout
from aqueue.attempts.files import AttemptFiles
from aqueue.attempts.orphans import find_orphans
from aqueue.system import KILL, TERMINATE, clock, signal_group

_POLL_INTERVAL = 0.05
"""Seconds between two looks at whether what was ended is gone."""
_LONGEST_SLEEP = 1.0
"""Seconds for which a watchdog sleeps at a time once its pool is gone: a sleep stands still while the machine is
suspended, and so would outlast the lease."""


def watch(folder: Path, pool: int) -> None:
    """Read deadlines from descriptor `pool`, and end the commands when one has passed."""
    deadline, kill_after = float("inf"), 0.0
    text = ""
    pool_is_gone = False
    while True:
        wait = max(0.0, deadline - clock.monotonic())
        if pool_is_gone:
            time.sleep(min(wait, _LONGEST_SLEEP))
        elif select.select([pool], [], [], None if wait == float("inf") else wait)[0]:
            data = os.read(pool, 65536)
            pool_is_gone = not data
            *lines, text = (text + data.decode()).split("\n")
            if "done" in lines:
                return
            if lines:
                _replace_earlier_watchdog(folder)
                deadline, kill_after = map(float, lines[-1].split())
            elif pool_is_gone and deadline == float("inf"):
                return
            continue
        if clock.monotonic() < deadline:
            continue
        if pool_is_gone and _is_replaced(folder):
            return
        end_commands(AttemptFiles(folder, 0), kill_after)
        if pool_is_gone:
            return
        deadline = float("inf")


def end_commands(files: AttemptFiles, kill_after: float, excluded: Collection[str] = ()) -> None:
    """End every command of the pools that had these files, except the attempts with the `excluded` tokens: send
    SIGTERM, and after `kill_after` seconds SIGKILL to what is left. Return when all are gone."""
    deadline = clock.monotonic() + kill_after
    ending: set[str] = set()
    while alive := {**find_commands(files, excluded), **_find_remaining(ending)}:
        for token, processes in alive.items():
            if token not in ending:
                ending.add(token)
                files.mark_interrupted(token)
                _signal(processes, TERMINATE)
            elif clock.monotonic() >= deadline:
                _signal(processes, KILL)
        time.sleep(_POLL_INTERVAL)


def find_commands(files: AttemptFiles, excluded: Collection[str] = ()) -> dict[str, list[int]]:
    """The processes of the attempts of `files` that have not ended, by token, except those with `excluded` tokens."""
    return {
        token: orphan.processes
        for token, orphan in find_orphans().items()
        if orphan.shell is not None and token not in excluded and files.known(token) is not None
    }


def _find_remaining(ending: set[str]) -> dict[str, list[int]]:
    """What is left of attempts that are being ended: also where the shell is gone already."""
    if not ending:
        return {}
    return {token: orphan.processes for token, orphan in find_orphans().items() if token in ending}


def _signal(processes: list[int], number: int) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            signal_group(os.getpgid(pid), number)


def _replace_earlier_watchdog(folder: Path) -> None:
    """Leave nothing to the watchdog of an earlier pool: its commands have been adopted."""
    if _is_replaced(folder):
        (folder / layout.WATCHDOG).write_text(str(os.getpid()))


def _is_replaced(folder: Path) -> bool:
    """Whether another watchdog is the latest."""
    try:
        return (folder / layout.WATCHDOG).read_text() != str(os.getpid())
    except FileNotFoundError:
        return True


if __name__ == "__main__":
    watch(Path(sys.argv[1]), 0)
    os._exit(0)  # a pool that ends waits for its watchdog: shutting down the interpreter would only delay it
