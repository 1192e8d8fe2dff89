"""Orphans: processes of attempts whose pool is gone, so that they are nobody's children here.

An attempt is recognised by the token in its environment, never by a process id alone.
"""

import asyncio
import os
from typing import NamedTuple

import psutil

from aqueue.jobs.environment import TOKEN


class Orphan(NamedTuple):
    """What still runs of an attempt."""

    shell: int | None
    """The outer shell, which will write the exit status. It leads the attempt's process group, and its command line
    names the attempt; a process that the command started in a session of its own does not. None if it is gone."""
    processes: list[int]
    """All of it."""


def find_orphans() -> dict[str, Orphan]:
    """What runs of attempts as processes of this user, by token; that includes attempts of living pools."""
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


def disown(process: asyncio.subprocess.Process) -> None:
    """Keep asyncio from killing a child that is left running, which it does when the loop closes."""
    transport = process._transport  # type: ignore[attr-defined]
    popen = transport.get_extra_info("subprocess")
    if popen.returncode is None:
        popen.returncode = 0
    transport.close()
