"""A pool's log: one line for each start and end of a job, for people or for machines."""

import sys
import time

import msgspec

from aqueue.cli import render
from aqueue.jobs.job import Job, State
from aqueue.units import span

UNSUCCESSFUL = frozenset({State.FAILED, State.DEAD})


class TextLine:
    """A change of a job as a line for a person: None for one that is neither a start nor an end.

    A line of an attempt that failed says why, before the command.
    """

    def __init__(self) -> None:
        self._paint = render.painter(sys.stdout)

    def __call__(self, job: Job) -> str | None:
        state = happened(job)
        if state is None:
            return None
        seconds = None if job.state is State.PROCESSING else render.duration(job)
        took = "" if seconds is None else span(seconds)
        clock = time.strftime("%H:%M:%S")
        name = "started" if job.state is State.PROCESSING else state
        head = f"{clock}  {job.id:<12}  "
        why = f"{render.cut(render.result(job), render.CELL_WIDTH)}  " if job.state in UNSUCCESSFUL else ""
        rest = f"  {took:>9}  {why}{render.one_line(job)}"
        room = render.terminal_width(sys.stdout) - len(head) - 11
        code = render.STATE_COLOURS[job.state]
        return head + self._paint(f"{name:<11}", code) + render.cut(rest, max(room, 20))


def json_line(job: Job) -> str | None:
    """A change of a job as a JSON object on one line: None for one that is neither a start nor an end."""
    state = happened(job)
    if state is None:
        return None
    latest = job.latest
    line = {
        "time": job.updated_at or job.created_at,
        "event": "start" if job.state is State.PROCESSING else "end",
        "state": state,
        "id": job.id,
        "queue": job.queue,
        "attempt": len(job.history),
        "worker": latest.worker if latest else None,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "error": job.error,
        "duration": render.duration(job),
        "command": job.command,
    }
    return msgspec.json.encode(line).decode()


def happened(job: Job) -> str | None:
    """What a change of `job` means for a log: its state, or `interrupted`; None if it only waits."""
    if job.state is not State.PENDING:
        return job.state.value
    latest = job.latest
    return "interrupted" if latest and latest.interrupted and job.interruptions else None
