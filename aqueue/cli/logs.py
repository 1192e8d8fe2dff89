"""`aqueue logs`: what a job's command printed, byte for byte, and while it prints."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from aqueue.cli import session
from aqueue.cli.options import IdArgument
from aqueue.control.requests import Get
from aqueue.errors import InvalidRequest
from aqueue.job import Job, State

FOLLOW_INTERVAL = 0.2
"""Seconds between two looks at what a running command printed."""

app = typer.Typer(rich_markup_mode="rich")


@app.command("logs")
def logs(
    job_id: IdArgument,
    stderr: Annotated[bool, typer.Option("--stderr", help="What it printed to stderr.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Of this attempt; the latest without it.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
) -> None:
    """Print what a job's command printed, byte for byte."""
    store = Path(session.settings().config.store)
    job = _get(job_id)
    if follow:
        _follow(store, job, stderr)
        return
    number = attempt or len(job.history)
    if attempt and attempt > len(job.history):
        raise InvalidRequest(f"job {job.id} has {len(job.history)} attempts, and no attempt {attempt}")
    path = _output_file(store, job, number, stderr)
    if path.exists():
        _copy(path, 0)
    elif number == len(job.history):
        session.write_bytes(((job.stderr if stderr else job.stdout) or "").encode())
    else:
        raise InvalidRequest(f"the output of attempt {number} of job {job.id} is not kept any more")


def _get(job_id: str) -> Job:
    return next(session.ask_jobs(Get([job_id])))


def _output_file(store: Path, job: Job, attempt: int, stderr: bool) -> Path:
    return store / "output" / f"{job.seq}-{attempt}.{'err' if stderr else 'out'}"


def _copy(path: Path, start: int) -> int:
    """Print a file from byte `start` on; return where it ends."""
    with path.open("rb") as stream:
        stream.seek(start)
        while data := stream.read(1 << 16):
            session.write_bytes(data)
        return stream.tell()


def _follow(store: Path, job: Job, stderr: bool) -> None:
    """Print the output of each attempt from now on as it comes, until the job has ended."""
    number, shown = max(len(job.history), 1), 0
    while True:
        # Asked before the file is read: what an ended attempt printed is all there.
        latest, ended = len(job.history), job.state.final
        path = _output_file(store, job, number, stderr)
        if path.exists():
            shown = _copy(path, shown)
        elif number == latest and job.state is not State.PROCESSING and not shown:
            text = ((job.stderr if stderr else job.stdout) or "").encode()
            session.write_bytes(text)
            shown = len(text)
        sys.stdout.flush()
        if number < latest:
            number, shown = number + 1, 0
        elif ended:
            return
        else:
            time.sleep(FOLLOW_INTERVAL)
            job = _get(job.id)
