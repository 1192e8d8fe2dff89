"""`aqueue` with a fault in it: `sabotaged.py FAULT COMMAND ...`.

The product holds no test code: this program patches the calls by which Python reaches the disk, and then runs the
real command line. FAULT is JSON: in the `nth` use of the function `call` of `os` on a file whose name contains
`file`, do `kill before` it, `kill after` it, `kill halfway` (of a write), or `fail` with `error`; a failure lasts as
long as the file `until_gone` exists. `set` maps dotted names of the product to other values. `clock` names a file:
the wall clock and the monotonic one are wrong by as many seconds as its text says, and a byte in the named pipe of that
name with `.changed` behind it tells so, as the system does.
"""

import errno
import importlib
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from typing import Any

import aqueue.jobs.job
import aqueue.system.clock


def _file_of(target: Any) -> str:
    return os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def break_call(call: str, file: str, do: str, nth: int = 1, error: str = "EIO", until_gone: str = "") -> None:
    """Replace a function of `os` by one that does what is asked."""
    real = getattr(os, call)
    uses = 0

    def broken(target: Any, *args: Any, **named: Any) -> Any:
        nonlocal uses
        if file not in _file_of(target):
            return real(target, *args, **named)
        uses += 1
        if do == "fail":
            if uses >= nth and os.path.exists(until_gone):
                code = getattr(errno, error)
                raise OSError(code, os.strerror(code))
            return real(target, *args, **named)
        if uses == nth and do == "kill before":
            _die()
        if uses == nth and do == "kill halfway":
            real(target, args[0][: len(args[0]) // 2])
            _die()
        result = real(target, *args, **named)
        if uses == nth and do == "kill after":
            _die()
        return result

    setattr(os, call, broken)


def skew_clocks(file: str) -> None:
    """Let the clocks, and nothing else, be wrong: the event loop's timers go on as they were set."""
    real, monotonic = time.time, aqueue.system.clock.monotonic

    def wrong_by(which: int) -> float:
        with open(file) as text:
            return float(text.read().split()[which])

    time.time = lambda: real() + wrong_by(0)
    aqueue.system.clock.monotonic = lambda: monotonic() + wrong_by(1)
    aqueue.system.clock.open_clock_watch = lambda: os.open(f"{file}.changed", os.O_RDWR | os.O_NONBLOCK)

    def rearm(fd: int) -> None:
        os.read(fd, 1)

    aqueue.system.clock.rearm_clock_watch = rearm
    aqueue.jobs.job.utc_now = lambda: datetime.fromtimestamp(time.time(), UTC)


def main() -> None:
    fault = json.loads(sys.argv.pop(1))
    if clock := fault.pop("clock", None):
        skew_clocks(clock)
    for name, value in fault.pop("set", {}).items():
        module, _, attribute = name.rpartition(".")
        setattr(importlib.import_module(module), attribute, value)
    if fault:
        break_call(**fault)
    from aqueue.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
