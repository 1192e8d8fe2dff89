"""What a pool in the foreground prints: one line for each start and end of a job, for people or for machines, and the
messages of its log."""

import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from aqueue.cli import output, render
from aqueue.jobs.job import Job, State
from aqueue.units import span

UNSUCCESSFUL = frozenset({State.FAILED, State.DEAD})


class TextLine:
    """Formats a change of a job as a line for a person: None for one that is neither a start nor an end.

    The line of an attempt that failed says why, before the command.
    """

    def __init__(self) -> None:
        self._paint = render.painter(sys.stdout)

    def __call__(self, job: Job) -> str | None:
        state = reported_state(job)
        if state is None:
            return None
        seconds = None if job.state is State.PROCESSING else render.duration(job)
        took = "" if seconds is None else span(seconds)
        now = time.strftime("%H:%M:%S")
        name = "started" if job.state is State.PROCESSING else state
        head = f"{now}  {job.id:<12}  "
        why = f"{render.truncate(render.result(job), render.CELL_WIDTH)}  " if job.state in UNSUCCESSFUL else ""
        rest = f"  {took:>9}  {why}{render.command_of(job)}"
        room = render.terminal_width(sys.stdout) - len(head) - 11
        code = render.STATE_COLOURS[job.state]
        return head + self._paint(f"{name:<11}", code) + render.truncate(rest, max(room, 20))


def json_line(job: Job) -> str | None:
    """A change of a job as a JSON object on one line: None for one that is neither a start nor an end."""
    state = reported_state(job)
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


def reported_state(job: Job) -> str | None:
    """What a line says of a change of `job`: its state, or `interrupted`; None where nothing is said: it only waits."""
    if job.state is not State.PENDING:
        return job.state.value
    latest = job.latest
    return "interrupted" if latest and latest.interrupted and job.interruptions else None


class PoolLogHandler(logging.Handler):
    """Prints what the pool logs: warnings on stderr at once, the rest by `print_notice` once the banner is printed."""

    def __init__(self, print_notice: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._print_notice = print_notice
        self._early: list[str] | None = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            with suppress(OSError):
                output.hint(text)
        elif self._early is not None:
            self._early.append(text)
        else:
            self._print_notice(text)

    def start_printing(self) -> None:
        """Print what was logged so far, and from now on everything as it comes."""
        early, self._early = self._early or [], None
        for text in early:
            self._print_notice(text)
