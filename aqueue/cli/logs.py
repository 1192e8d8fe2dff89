"""`aqueue logs`: what a job's command printed, byte for byte, and while it prints."""

import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from aqueue import layout
from aqueue.attempts.files import output_name
from aqueue.cli import session
from aqueue.cli.options import IdArgument, JsonOption
from aqueue.control.requests import Get
from aqueue.errors import InvalidRequest
from aqueue.jobs.job import Job, State

_REPLACED = "\ufffd".encode()
"""What stands in the record for bytes that are no text."""
FOLLOW_INTERVAL = 0.2
"""Seconds between two looks at what a running command printed."""

app = typer.Typer(rich_markup_mode="rich")


@app.command("logs")
def logs(
    job_id: IdArgument,
    stderr: Annotated[bool, typer.Option("--stderr", help="What it printed to stderr.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Of this attempt; the latest without it.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what a job's command printed, byte for byte."""
    store = session.settings().config.folder
    job = _get(job_id)
    if follow and as_json:
        raise InvalidRequest("--follow prints as it comes, and --json one object: give one of them")
    if follow and attempt:
        raise InvalidRequest("--follow goes on from the latest attempt, and --attempt is one: give one of them")
    if follow:
        _follow(store, job, stderr)
        return
    number = attempt or len(job.history)
    if attempt and attempt > len(job.history):
        raise InvalidRequest(f"job {job.id} has no attempt {attempt}: it has had {len(job.history)}")
    stream: BinaryIO | None = _opened(_output_file(store, job, number, stderr))
    if stream is None:
        host = job.history[number - 1].host if job.history else None
        if number != len(job.history):
            where = f"on {host}, if it is kept" if host else "not kept any more"
            raise InvalidRequest(f"the output of attempt {number} of job {job.id} is {where}")
        recorded = _recorded(job, stderr)
        stream = BytesIO(recorded)
        if host is not None and len(recorded) >= session.settings().config.output_limit:
            session.hint(f"this is the end of it; the whole output is on {host}: aqueue logs {job.id}")
        elif host is not None and _REPLACED in recorded:
            session.hint(f"not all of it is text; the output byte for byte is on {host}: aqueue logs {job.id}")
    with stream:
        if as_json:
            text = stream.read().decode("utf-8", "replace")
            session.print_json({"id": job.id, "attempt": number, ("stderr" if stderr else "stdout"): text})
        else:
            _copy(stream)


def _get(job_id: str) -> Job:
    return next(session.ask_jobs(Get([job_id])))


def _output_file(store: Path, job: Job, attempt: int, stderr: bool) -> Path:
    return store / layout.OUTPUT / output_name(job.seq, attempt, "err" if stderr else "out")


def _opened(path: Path) -> BinaryIO | None:
    """The file, None where there is none: short output is in the record only, once the attempt has ended."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _copy(stream: BinaryIO) -> None:
    """Print what a file holds from where it stands."""
    while data := stream.read(1 << 16):
        session.write_bytes(data)
    sys.stdout.flush()


def _follow(store: Path, job: Job, stderr: bool) -> None:
    """Print the output of each attempt from the latest on, as it comes, until the job has ended."""
    number = max(len(job.history), 1)
    while not _follow_attempt(store, job, number, stderr):
        number += 1


def _follow_attempt(store: Path, job: Job, number: int, stderr: bool) -> bool:
    """Print the output of one attempt until it is over; return whether the job has ended with it."""
    stream = None
    try:
        while True:
            job = _get(job.id)
            # Opened while it is there: when the attempt ends, its name may go, but not what is open.
            stream = stream or _opened(_output_file(store, job, number, stderr))
            if stream is not None:
                _copy(stream)
            latest = len(job.history)
            if latest > number:
                return False
            if job.state.final or (latest == number and job.state is not State.PROCESSING):
                if stream is None and latest == number:
                    session.write_bytes(_recorded(job, stderr))
                return job.state.final
            time.sleep(FOLLOW_INTERVAL)
    finally:
        if stream is not None:
            stream.close()


def _recorded(job: Job, stderr: bool) -> bytes:
    return ((job.stderr if stderr else job.stdout) or "").encode()
