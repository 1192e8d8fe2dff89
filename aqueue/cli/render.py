"""How jobs look to a person: tables that fit the terminal, everything about one job, colours where they can be shown.

Everything here is plain string formatting: a pool prints thousands of lines a second, and a list of a
million jobs goes through a pipe.
"""

import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TextIO

from aqueue.errors import printable
from aqueue.jobs.job import Job, State, utc_now
from aqueue.units import relative, span

STATE_COLOURS = {
    State.PENDING: "36",
    State.PROCESSING: "34",
    State.COMPLETED: "32",
    State.FAILED: "33",
    State.DEAD: "31",
    State.CANCELLED: "90",
}
PIPE_WIDTH = 200
CELL_WIDTH = 40
_LAST_COLUMN_WIDTH = 20
"""What a table keeps for its last column, where the others can be narrower."""
_MIN_COLUMN_WIDTH = 8
_ZEROS_SHOWN = frozenset({"attempts", "max_retries", "exit_code"})
Paint = Callable[[str, str], str]


def painter(stream: TextIO) -> Paint:
    """A function that colours text by an SGR code where `stream` is a terminal and NO_COLOR is not set."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return lambda text, code: text
    return lambda text, code: f"\x1b[{code}m{text}\x1b[0m" if code and text else text


def terminal_width(stream: TextIO) -> int:
    return shutil.get_terminal_size().columns if stream.isatty() else PIPE_WIDTH


def display_width(text: str) -> int:
    """How many columns `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def truncate(text: str, width: int) -> str:
    """`text` in at most `width` columns, with an ellipsis where something is left out."""
    if display_width(text) <= width:
        return text
    if text.isascii():
        return text[: width - 1] + "…" if width > 0 else ""
    kept, used = [], 1
    for char in text:
        used += display_width(char)
        if used > width:
            break
        kept.append(char)
    return "".join(kept) + ("…" if width > 0 else "")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], colours: dict[str, str] | None = None) -> list[str]:
    """Rows under their titles, each column as wide as it needs to be. The last column gets what the terminal leaves;
    where that is too little, the widest of the others are truncated, but never in a pipe.

    A cell whose whole text is in `colours` is shown in that colour.
    """
    paint = painter(sys.stdout)
    terminal = sys.stdout.isatty()
    widest = CELL_WIDTH if terminal else PIPE_WIDTH
    columns = zip(titles[:-1], *(row[:-1] for row in rows), strict=True)
    widths = [min(widest, max(display_width(cell) for cell in column)) for column in columns]
    free = terminal_width(sys.stdout) - 2 * len(widths)
    if terminal and sum(widths) > free - _LAST_COLUMN_WIDTH:
        needed = min(_LAST_COLUMN_WIDTH, max(display_width(row[-1]) for row in (titles, *rows)))
        while sum(widths) > free - needed and max(widths) > _MIN_COLUMN_WIDTH:
            widths[widths.index(max(widths))] -= 1
    room = max(free - sum(widths), _MIN_COLUMN_WIDTH)

    def line(cells: Sequence[str], code: Callable[[str], str]) -> str:
        shown: list[str] = []
        for cell, width in zip(cells, (*widths, room), strict=True):
            text = truncate(cell, width)
            gap = " " * (width - display_width(text)) if len(shown) < len(widths) else ""
            shown.append(paint(text, code(cell)) + gap)
        return "  ".join(shown).rstrip()

    known = colours or {}
    return [line(titles, lambda _: "1"), *(line(row, lambda cell: known.get(cell, "")) for row in rows)]


def job_table(jobs: Sequence[Job]) -> list[str]:
    """One line a job, for a person."""
    now = utc_now()
    rows = [(job.id, job.state.value, tries(job), job.queue, when(job, now), command_of(job)) for job in jobs]
    return table(("ID", "STATE", "TRIES", "QUEUE", "WHEN", "COMMAND"), rows, colours())


def dead_table(jobs: Sequence[Job]) -> list[str]:
    """The dead letter queue: why each job is in it."""
    now = utc_now()
    rows = [(job.id, tries(job), when(job, now), result(job), command_of(job)) for job in jobs]
    return table(("ID", "TRIES", "DIED", "WHY", "COMMAND"), rows)


def colours() -> dict[str, str]:
    return {state.value: code for state, code in STATE_COLOURS.items()}


def command_of(job: Job) -> str:
    """The command on one line."""
    return printable(job.command)


def tries(job: Job) -> str:
    """Attempts made, of those that the job may have."""
    return f"{job.attempts}/{job.max_retries + 1}"


def when(job: Job, now: datetime) -> str:
    """The time that matters in the job's state: when it starts, how long it runs, when it ended."""
    if job.state is State.PROCESSING and job.started_at:
        return f"for {span((now - job.started_at).total_seconds())}"
    if job.state in (State.PENDING, State.FAILED):
        return relative(job.due_at, now) if job.due_at > now else relative(job.created_at, now)
    return relative(job.updated_at or job.created_at, now)


def result(job: Job) -> str:
    """How the latest attempt ended, in few words."""
    if job.error:
        return printable(job.error)
    if job.signal:
        return f"signal {job.signal}"
    return f"exit {job.exit_code}" if job.exit_code is not None else "-"


def duration(job: Job) -> float | None:
    """Seconds that the latest attempt took."""
    latest = job.latest
    if latest is None or latest.finished_at is None:
        return None
    return (latest.finished_at - latest.started_at).total_seconds()


def details(job: Job) -> Iterable[str]:
    """Everything about one job, for a person: its fields unless they are empty, its attempts, its output."""
    paint = painter(sys.stdout)
    now = utc_now()
    for name, value in job.record().items():
        if name in ("history", "stdout", "stderr") or not (value or (value == 0 and name in _ZEROS_SHOWN)):
            continue
        moment = getattr(job, name, None)
        if isinstance(moment, datetime):
            shown = f"{value}  ({relative(moment, now)})"
        elif isinstance(value, dict):
            shown = " ".join(f"{key}={text}" for key, text in value.items())
        else:
            shown = ", ".join(value) if isinstance(value, list) else str(value)
        colour = STATE_COLOURS[job.state] if name == "state" else ""
        yield f"{paint(f'{name:<15}', '1')} {paint(printable(shown), colour)}"
    for number, attempt in enumerate(job.history, 1):
        ended = attempt.finished_at
        took = f"took {span((ended - attempt.started_at).total_seconds())}" if ended else "running"
        ending = f"exit {attempt.exit_code}" if attempt.exit_code is not None else ""
        ending = f"signal {attempt.signal}" if attempt.signal else ending
        why = ", ".join(part for part in (ending, attempt.error or "") if part)
        line = f"{relative(attempt.started_at, now)}, {took}{', ' if why else ''}{why}"
        yield f"{paint(f'attempt {number:<7}', '1')} {printable(line)}"
    for name in ("stdout", "stderr"):
        text = getattr(job, name)
        if text:
            yield paint(name, "1")
            yield from (f"  {printable(line)}" for line in text.splitlines())
