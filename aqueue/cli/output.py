"""What commands print: data on stdout and nothing else there, hints on stderr; and the exit status that a job means."""

import sys
from collections.abc import Iterable

import msgspec

from aqueue.errors import printable
from aqueue.jobs.job import Job, State


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")


def print_json(value: object) -> None:
    """One JSON value on stdout, and nothing else."""
    write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def print_records(jobs: Iterable[Job]) -> None:
    """A JSON array on stdout, one record a line, written as the jobs come."""
    encode = msgspec.json.Encoder().encode
    before = b"[\n"
    for job in jobs:
        write_bytes(before + encode(job.record()))
        before = b",\n"
    write_bytes(b"[]\n" if before == b"[\n" else b"\n]\n")


def print_jobs(jobs: Iterable[Job], *, as_json: bool) -> None:
    """The jobs as records, or only their ids, one a line."""
    if as_json:
        print_records(jobs)
    else:
        print_lines(job.id for job in jobs)


def write_bytes(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


def hint(text: str) -> None:
    """Say something that is no data, in one line."""
    sys.stdout.flush()
    sys.stderr.write(printable(text) + "\n")


def exit_status(job: Job) -> int:
    """A job's result as an exit status: its command's own; 128 + n for signal n; 1 if it has none."""
    if job.state is State.COMPLETED:
        return 0
    if job.signal:
        return 128 + job.signal
    return job.exit_code or 1
