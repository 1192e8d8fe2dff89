"""Processes that are not our children: what outlived its pool, what is left of a group, and when it ends.

An attempt is recognised by the token in its environment, never by a process id alone.
"""

import asyncio
import os
from typing import NamedTuple

import psutil

from aqueue.jobs.environment import TOKEN
from aqueue.system import platform


class Orphan(NamedTuple):
    """What runs of an attempt of an earlier pool: the shell that will write its exit status, and all of it."""

    shell: int | None
    """It leads the attempt's process group, and its command line names the attempt; what the command started in
    a session of its own does not."""
    processes: list[int]


def find_orphans() -> dict[str, Orphan]:
    """The processes of this user that run an attempt, by its token."""
    found: dict[str, Orphan] = {}
    for process in psutil.process_iter():
        try:
            token = process.environ().get(TOKEN)
            if token is None or process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
            leads = os.getpgid(process.pid) == process.pid and any(token in word for word in process.cmdline())
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
        shell, others = found.get(token, (None, []))
        found[token] = Orphan(process.pid if leads else shell, [*others, process.pid])
    return found


def group_members(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return members


async def process_ended(pid: int) -> None:
    """Return when process `pid`, which need not be a child, has ended; at once if there is none."""
    try:
        fd = platform.exit_descriptor(pid)
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


def disown(process: asyncio.subprocess.Process) -> None:
    """Keep asyncio from killing a child that is left running: it does so when the loop closes."""
    transport = process._transport  # type: ignore[attr-defined]
    popen = transport.get_extra_info("subprocess")
    if popen.returncode is None:
        popen.returncode = 0
    transport.close()
