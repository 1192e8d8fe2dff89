"""Jobs as rows: the record as JSON, and beside it in columns what the database decides by.

A row in state `processing` holds the record from before its claim, and the running attempt in columns of its own: so a
claim writes no JSON, and returning a claimed job only clears those columns.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from aqueue.jobs.job import WAITING_STATES, Job, State
from aqueue.jobs.lifecycle import claimed

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Job).decode


class JobRow(msgspec.Struct, frozen=True, gc=False):
    """A job without its output; the fields are the columns to select."""

    seq: int
    state: str
    host: str | None
    worker: int | None
    token: str | None
    started: datetime | None
    record: str

    def job(self) -> Job:
        """The job as it is."""
        before = self.before_claim()
        return self.running(before) if self.state == State.PROCESSING else before

    def before_claim(self) -> Job:
        """The job as it was before the attempt that runs, if one does."""
        return _decode(self.record)

    def running(self, before: Job) -> Job:
        """The job with its running attempt, from what it was before the claim."""
        assert self.worker is not None
        assert self.token is not None
        assert self.started is not None
        return claimed(before, worker=self.worker, token=self.token, now=self.started.astimezone(UTC), host=self.host)


class JobWithOutputRow(JobRow, frozen=True, gc=False):
    """A job with what its latest attempt printed."""

    stdout: bytes | None
    stderr: bytes | None

    def job(self) -> Job:
        job = super().job()
        if not job.history:
            return job
        return replace(job, stdout=(self.stdout or b"").decode(), stderr=(self.stderr or b"").decode())


class ClaimedJob(NamedTuple):
    """A job that a pool has claimed, as it was before and as it is."""

    before: Job
    job: Job

    @classmethod
    def from_row(cls, row: JobRow) -> "ClaimedJob":
        """From the row of a job that is processing."""
        before = row.before_claim()
        return cls(before, row.running(before))


def is_ready(job: Job, now: datetime) -> bool:
    """Whether the job may be claimed at that time."""
    return job.state in WAITING_STATES and (job.run_at is None or job.run_at <= now)


_TYPES = {
    "seq": "bigint",
    "ended": "boolean",
    "id": "text",
    "state": "text",
    "queue": "text",
    "rank": "integer",
    "due": "timestamptz",
    "ready": "boolean",
    "tags": "text",
    "changed": "timestamptz",
    "record": "json",
    "stdout": "bytea",
    "stderr": "bytea",
    "begun": "integer",
}
"""The columns that are written of a job which is not running, and the types as which they are sent."""
_IMMUTABLE = ("id", "queue", "tags")
_UPDATED = [name for name in _TYPES if name not in _IMMUTABLE]
"""The columns that an update writes, and `seq`, which says which job's they are."""
_ARRAYS = {name: f"%({name})s::{kind}[]" for name, kind in _TYPES.items()}
INSERT = f"""
    INSERT INTO aqueue.job ({", ".join(_TYPES)})
    SELECT {", ".join(name if name != "tags" else "tags::text[]" for name in _TYPES)}
    FROM unnest({", ".join(_ARRAYS.values())}) AS new ({", ".join(_TYPES)})"""
"""Inserts jobs, from the parameters `write_parameters`."""
UPDATED_ARRAYS = ", ".join(_ARRAYS[name] for name in _UPDATED)
"""For `unnest`: the arrays among `write_parameters` that an update needs,"""
UPDATED_COLUMNS = ", ".join(_UPDATED)
"""and the columns that they make."""
SET = ", ".join(f"{name} = new.{name}" for name in _UPDATED if name != "seq")
"""Sets the columns of a job to those of a row `new`."""


def write_parameters(jobs: Iterable[Job], now: datetime) -> dict[str, str]:
    """Jobs as arrays for `unnest`: each column of all jobs."""
    rows = [_values(job, now) for job in jobs]
    return {name: array(row[place] for row in rows) for place, name in enumerate(_TYPES)}


def _values(job: Job, now: datetime) -> tuple[object, ...]:
    """In the order of `_TYPES`."""
    return (
        job.seq,
        job.state.final,
        job.id,
        job.state.value,
        job.queue,
        -job.priority,
        job.due_at,
        is_ready(job, now),
        array(job.tags),
        job.updated_at or job.created_at,
        _encode(replace(job, stdout=None, stderr=None)).decode(),
        _bytea(job.stdout),
        _bytea(job.stderr),
        len(job.history),
    )


def array(values: Iterable[object]) -> str:
    """Values as PostgreSQL writes an array; None is NULL.

    The server parses it in a fraction of the time in which a driver that looks at each value makes one, and its type
    is the same for every value.
    """
    return "{" + ",".join("NULL" if value is None else _quoted(str(value)) for value in values) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bytea(text: str | None) -> str | None:
    """Text as `bytea`: it may contain NUL, which PostgreSQL's `text` may not."""
    return "\\x" + text.encode().hex() if text else None
