"""Processes: signals to a group, the end and the age of one that need not be a child, the limit of open files."""

import contextlib
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path

from aqueue.system import clock

TERMINATE: int = signal.SIGTERM
KILL: int = signal.SIGKILL


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; False if there is none."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so of a group that holds only a zombie
        return sys.platform != "darwin"
    return True


async def wait_for_exit(pid: int) -> None:
    """Return when process `pid`, which need not be a child, has ended; at once if there is none."""
    import asyncio  # here, because a short command pays for every import

    try:
        fd = _open_exit_descriptor(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def _open_exit_descriptor(pid: int) -> int:
    """A descriptor that becomes readable when process `pid` ends. Raises `ProcessLookupError` if there is none."""
    if sys.platform == "linux":
        return os.pidfd_open(pid)
    queue = select.kqueue()
    fd = os.dup(queue.fileno())
    event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
    try:
        queue.control([event], 0)
    except OSError as error:
        os.close(fd)
        raise ProcessLookupError(pid) from error
    finally:
        queue.close()
    return fd


def process_age(pid: int) -> float:
    """The seconds since process `pid` started, whatever the wall clock was set to meanwhile; 0 if it is gone."""
    if sys.platform != "linux":
        import psutil  # here, because a short command pays for every import

        try:
            return time.time() - psutil.Process(pid).create_time()
        except psutil.Error:
            return 0.0
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return clock.monotonic() - started


def raise_open_file_limit(count: int) -> None:
    """Let this process open `count` files, as far as it may. No more: commands inherit the limit, and some of them
    close every descriptor up to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        count = min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < count:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
