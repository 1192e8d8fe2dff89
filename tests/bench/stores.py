"""Stores of any size, written as journal lines by aqueue's own encoder, and what a journal says afterwards."""

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from aqueue import layout
from aqueue.errors import UNREADABLE
from aqueue.jobs.job import Attempt, Job, State
from aqueue.store.journal.records import FORMAT, Header, decode_record, encode

_CWD = "/home/somebody/a/project"
_CHUNK = 10_000
BLOCKER = "exec sleep 3600"
"""The command that keeps a worker busy, so that a backlog behind it stays as it is."""


def pending(count: int, command: str = "true", *, first: int = 1, priority: int = 0) -> Iterator[Job]:
    """Jobs that are due; `first` is the sequence number of the first one."""
    now = datetime.now(UTC)
    for seq in range(first, first + count):
        yield Job(id=f"j{seq:05d}", seq=seq, command=command, created_at=now, priority=priority, cwd=_CWD)


def backlog(count: int, workers: int = 4) -> Iterator[Job]:
    """Jobs that keep every worker busy, and `count` that are due and wait behind them."""
    yield from blockers(workers)
    yield from pending(count, first=workers + 1)


def blockers(workers: int = 4) -> Iterator[Job]:
    """Jobs that keep every worker busy."""
    return (in_any_directory(job) for job in pending(workers, BLOCKER, priority=9))


def finished(count: int, *, first: int = 1) -> Iterator[Job]:
    """Jobs that have succeeded a minute ago."""
    end = datetime.now(UTC) - timedelta(minutes=1)
    for job in pending(count, first=first):
        attempt = Attempt(
            started_at=end, worker=1, token=f"0123456789.1.{job.seq}-1", pid=4711, finished_at=end, exit_code=0
        )
        yield Job(
            id=job.id,
            seq=job.seq,
            command=job.command,
            created_at=end,
            state=State.COMPLETED,
            attempts=1,
            updated_at=end,
            cwd=_CWD,
            history=(attempt,),
        )


def scheduled(count: int, at: datetime, *, every: timedelta = timedelta(), first: int = 1) -> Iterator[Job]:
    """Jobs the first of which is due at `at`, and each other one `every` later; `first` is the first one's number."""
    now = datetime.now(UTC)
    for number in range(count):
        seq = first + number
        run_at = at + number * every
        yield Job(id=f"j{seq:05d}", seq=seq, command="true", created_at=now, run_at=run_at, cwd="/")


def runnable(count: int, command: str = "true") -> Iterator[Job]:
    """Jobs that are due and can really be started, in a directory that exists."""
    return (in_any_directory(job) for job in pending(count, command))


def in_any_directory(job: Job) -> Job:
    """`job` with a working directory that exists."""
    return Job(id=job.id, seq=job.seq, command=job.command, created_at=job.created_at, priority=job.priority, cwd="/")


def fill(store: Path, jobs: Iterable[Job]) -> None:
    """Make `store` one that holds `jobs`; a job that comes twice has two lines."""
    store.mkdir(mode=0o700, parents=True)
    following = iter(jobs)
    with open(store / layout.JOURNAL, "wb", opener=_private) as journal:
        journal.write(encode(Header(FORMAT)) + b"\n")
        while lines := [encode(job) + b"\n" for job in islice(following, _CHUNK)]:
            journal.write(b"".join(lines))
        journal.flush()
        os.fsync(journal.fileno())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def journal_size(store: Path) -> int:
    """The length of the journal in bytes."""
    return (store / layout.JOURNAL).stat().st_size


def ended_attempts(store: Path, offset: int = 0) -> list[Attempt]:
    """Each attempt that has ended, as the journal tells from byte `offset` on."""
    found = []
    with open(store / layout.JOURNAL, "rb") as journal:
        journal.seek(offset)
        for line in journal:
            try:
                job = decode_record(line)
            except UNREADABLE:
                continue  # the header
            if isinstance(job, Job) and job.latest is not None and job.latest.finished_at is not None:
                found.append(job.latest)
    return found
