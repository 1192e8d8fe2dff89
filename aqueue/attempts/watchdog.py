"""The guard of a pool on a database: it ends the pool's commands when the pool's lease is about to run out.

    python -m aqueue.attempts.watchdog FOLDER

A process of its own, because it is for the moment in which the pool is dead or hangs. On stdin the pool writes lines
`UNTIL KILL_AFTER`: commands are ended when `UNTIL` has come, in seconds of `clock.monotonic`, with SIGTERM and
`KILL_AFTER` seconds later SIGKILL. `done` sends the guard home. When the pool is gone, the guard waits for that
moment all the same; if the guard of a next pool, which has joined the others and so taken over the commands, is on
duty by then, they are that one's.
"""

import contextlib
import os
import select
import sys
import time
from collections.abc import Collection
from pathlib import Path

from aqueue.attempts.files import AttemptFiles
from aqueue.attempts.orphans import find_orphans
from aqueue.system import KILL, TERMINATE, clock, signal_group

_LOOK_AGAIN = 0.05
"""Seconds between two looks at whether what was ended is gone."""
_STEP = 1.0
"""Seconds that a guard sleeps at a time once its pool is gone: a sleep stands still while the machine sleeps, and so
would outlast the lease."""
_DUTY = "guard"
"""The file that names the process of the guard on duty."""


def watch(folder: Path, pool: int) -> None:
    """Wait for what the pool says on descriptor `pool`, and act when its time is up."""
    until, kill_after = float("inf"), 0.0
    text = ""
    alone = False
    while True:
        wait = max(0.0, until - clock.monotonic())
        if alone:
            time.sleep(min(wait, _STEP))
        elif select.select([pool], [], [], None if wait == float("inf") else wait)[0]:
            data = os.read(pool, 65536)
            alone = not data
            *lines, text = (text + data.decode()).split("\n")
            if "done" in lines:
                return
            if lines:
                _take_duty(folder)
                until, kill_after = map(float, lines[-1].split())
            elif alone and until == float("inf"):
                return
            continue
        if clock.monotonic() < until:
            continue
        if alone and _is_relieved(folder):
            return
        end_commands(AttemptFiles(folder, 0), kill_after)
        if alone:
            return
        until = float("inf")


def end_commands(files: AttemptFiles, kill_after: float, spare: Collection[str] = ()) -> None:
    """End every command of the pools that had these files, but for the attempts `spare`: SIGTERM, and SIGKILL to what
    is left after so many seconds."""
    deadline = clock.monotonic() + kill_after
    ending: set[str] = set()
    while alive := {**commands(files, spare), **_remains(ending)}:
        for token, processes in alive.items():
            if token not in ending:
                ending.add(token)
                files.mark_interrupted(token)
                _signal(processes, TERMINATE)
            elif clock.monotonic() >= deadline:
                _signal(processes, KILL)
        time.sleep(_LOOK_AGAIN)


def commands(files: AttemptFiles, spare: Collection[str] = ()) -> dict[str, list[int]]:
    """The processes of the attempts of `files` that have not ended, by token, but for those to `spare`."""
    return {
        token: alive.processes
        for token, alive in find_orphans().items()
        if alive.shell is not None and token not in spare and files.known(token) is not None
    }


def _remains(ending: set[str]) -> dict[str, list[int]]:
    """What is left of attempts that are being ended: also where the shell is gone already."""
    return {token: alive.processes for token, alive in find_orphans().items() if token in ending} if ending else {}


def _signal(processes: list[int], number: int) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            signal_group(os.getpgid(pid), number)


def _take_duty(folder: Path) -> None:
    """Relieve the guard of an earlier pool: the commands that it watches over have been taken over."""
    if _is_relieved(folder):
        (folder / _DUTY).write_text(str(os.getpid()))


def _is_relieved(folder: Path) -> bool:
    try:
        return (folder / _DUTY).read_text() != str(os.getpid())
    except FileNotFoundError:
        return True


if __name__ == "__main__":
    watch(Path(sys.argv[1]), 0)
    os._exit(0)  # a pool that ends waits for its guard: taking the interpreter apart would only keep it
