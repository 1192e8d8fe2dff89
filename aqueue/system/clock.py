"""Time as only the operating system can tell it: how much has passed, and that the clocks were changed.

Timers of the event loop stand still while the machine sleeps, and do not notice a wall clock that is set. A wait for a
time by one of the clocks here watches a descriptor, which tells when the wait has to be computed anew.
"""

import contextlib
import os
import sys
import time

_CLOCK = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC
_ABSOLUTE, _CANCEL_ON_SET = 1, 2
"""Flags of timerfd_settime(2)."""


def monotonic() -> float:
    """Seconds on a clock that nobody can set and that goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


def open_clock_watch() -> int | None:
    """A descriptor that becomes readable when the wall clock is set or the machine wakes; see `rearm_clock_watch`.

    None where the system has nothing of the kind (all but Linux): a wait that spans a sleep ends late there.
    """
    if sys.platform != "linux":
        return None
    with contextlib.suppress(ImportError, AttributeError, OSError):
        fd = _timerfd("timerfd_create", time.CLOCK_REALTIME, os.O_CLOEXEC | os.O_NONBLOCK)
        rearm_clock_watch(fd)
        return fd
    return None


def rearm_clock_watch(fd: int) -> None:
    """Make the descriptor readable again only when the clocks are changed from now on; call this before you look at
    them."""
    import ctypes  # here, because a short command pays for every import

    with contextlib.suppress(OSError):  # `ECANCELED`: the clocks were changed, which the caller knows
        os.read(fd, 8)
    never = (ctypes.c_long * 4)(0, 0, sys.maxsize, 0)  # struct itimerspec: an interval, and a time in the far future
    with contextlib.suppress(OSError):
        _timerfd("timerfd_settime", fd, _ABSOLUTE | _CANCEL_ON_SET, never, None)


def _timerfd(function: str, *arguments: object) -> int:
    """Call into the C library: Python has this from 3.13. Raises `OSError`, `AttributeError` if it is not there."""
    import ctypes

    result: int = getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), function)
    return result
