"""`aqueue logs`: what a job's command printed, byte for byte, and while it prints."""

import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from aqueue import layout
from aqueue.attempts.files import output_name
from aqueue.cli import context, output
from aqueue.cli.options import IdArgument, JsonOption
from aqueue.control.client import Client
from aqueue.control.requests import Get
from aqueue.errors import InvalidRequest
from aqueue.jobs.job import Job, State
from aqueue.settings.config import Config

_REPLACED = "\ufffd".encode()
"""What stands in the record for bytes that are no text."""
POLL_INTERVAL = 0.2
"""Seconds between two looks at what a running command has printed."""

app = typer.Typer(rich_markup_mode="rich")


@app.command("logs")
def logs(
    ctx: typer.Context,
    job_id: IdArgument,
    stderr: Annotated[bool, typer.Option("--stderr", help="Print what went to stderr.")] = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Print the output of this attempt; of the latest by default.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing until the job has ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what a job's command printed, byte for byte."""
    config = context.settings(ctx).config
    job = _get(config, job_id)
    if follow and as_json:
        raise InvalidRequest("--follow prints as it comes, and --json one object: give one of them")
    if follow and attempt:
        raise InvalidRequest("--follow goes on from the latest attempt, and --attempt is one: give one of them")
    if attempt and attempt > len(job.history):
        raise InvalidRequest(f"job {job.id} has no attempt {attempt}: it has had {len(job.history)}")
    if follow:
        _follow(config, job, stderr)
        return
    number = attempt or len(job.history)
    with _output(config, job, number, stderr) as stream:
        if as_json:
            text = stream.read().decode("utf-8", "replace")
            output.print_json({"id": job.id, "attempt": number, ("stderr" if stderr else "stdout"): text})
        else:
            _copy(stream)


def _get(config: Config, job_id: str) -> Job:
    with Client(config) as client:
        return next(client.jobs(Get([job_id])))


def _output(config: Config, job: Job, attempt: int, stderr: bool) -> BinaryIO:
    """What an attempt printed: its file, else what the record has of the latest. Raises `InvalidRequest`."""
    stream = _opened(_output_file(config.folder, job, attempt, stderr))
    if stream is not None:
        return stream
    host = job.history[attempt - 1].host if job.history else None
    if attempt != len(job.history):
        where = f"on {host}, if it is kept" if host else "not kept any more"
        raise InvalidRequest(f"the output of attempt {attempt} of job {job.id} is {where}")
    recorded = _recorded(job, stderr)
    if host is not None and len(recorded) >= config.output_limit:
        output.hint(f"this is the end of it; the whole output is on {host}: aqueue logs {job.id}")
    elif host is not None and _REPLACED in recorded:
        output.hint(f"not all of it is text; the output byte for byte is on {host}: aqueue logs {job.id}")
    return BytesIO(recorded)


def _output_file(folder: Path, job: Job, attempt: int, stderr: bool) -> Path:
    return folder / layout.OUTPUT / output_name(job.seq, attempt, "err" if stderr else "out")


def _opened(path: Path) -> BinaryIO | None:
    """The file, None where there is none: short output is in the record only, once the attempt has ended."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _recorded(job: Job, stderr: bool) -> bytes:
    return ((job.stderr if stderr else job.stdout) or "").encode()


def _copy(stream: BinaryIO) -> None:
    """Print what a file holds from where it stands."""
    while data := stream.read(1 << 16):
        output.write_bytes(data)
    sys.stdout.flush()


def _follow(config: Config, job: Job, stderr: bool) -> None:
    """Print the output of each attempt from the latest on, as it comes, until the job has ended."""
    number = max(len(job.history), 1)
    while not _follow_attempt(config, job.id, number, stderr):
        number += 1


def _follow_attempt(config: Config, job_id: str, number: int, stderr: bool) -> bool:
    """Print the output of one attempt until it is over; return whether the job has ended with it."""
    stream = None
    try:
        while True:
            job = _get(config, job_id)
            # Opened while it is there: when the attempt ends, its name may go, but not what is open.
            stream = stream or _opened(_output_file(config.folder, job, number, stderr))
            if stream is not None:
                _copy(stream)
            latest = len(job.history)
            if latest > number:
                return False
            if job.state.final or (latest == number and job.state is not State.PROCESSING):
                if stream is None and latest == number:
                    output.write_bytes(_recorded(job, stderr))
                return job.state.final
            time.sleep(POLL_INTERVAL)
    finally:
        if stream is not None:
            stream.close()
