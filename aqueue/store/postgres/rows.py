"""Jobs as rows: the record as JSON, beside it in columns what the database decides by.

A row that is `processing` holds the record as it was before, and the running attempt in columns of its own: so a
claim writes no JSON, and taking one back is forgetting those columns.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from aqueue.jobs.job import WAITING_STATES, Job, State
from aqueue.jobs.lifecycle import claimed

PLAIN = "seq, state, host, worker, token, started, record::text, NULL, NULL"
"""What `job_of` takes, without output."""
FULL = "seq, state, host, worker, token, started, record::text, stdout, stderr"
"""What `job_of` takes, with output."""
Row = Sequence[Any]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Job).decode


def record_of(row: Row) -> Job:
    """The job of a row as it was before the attempt that runs, if one does."""
    return _decode(row[6])


def job_of(row: Row, *, output: bool = False) -> Job:
    """The job of a row of the columns `FULL` if `output`, else `PLAIN`."""
    job = record_of(row)
    if row[1] == State.PROCESSING:
        job = running(job, row)
    if output and job.history:
        stdout, stderr = row[7:9]
        job = replace(job, stdout=(stdout or b"").decode(), stderr=(stderr or b"").decode())
    return job


def running(record: Job, row: Row) -> Job:
    """The job whose record is in a row that is processing, with its attempt."""
    host, worker, token, started = row[2:6]
    return claimed(record, worker=worker, token=token, now=started.astimezone(UTC), host=host)


def is_ready(job: Job, now: datetime) -> bool:
    """Whether a claim may take the job."""
    return job.state in WAITING_STATES and (job.run_at is None or job.run_at <= now)


COLUMNS = {
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
"""What of a job that is not running is written, and as what it is sent."""
CHANGING = [name for name in COLUMNS if name not in ("id", "queue", "tags")]
"""Those that a change may change, and the number that tells whose."""
_ARRAYS = {name: f"%({name})s::{kind}[]" for name, kind in COLUMNS.items()}
CHANGES = ", ".join(_ARRAYS[name] for name in CHANGING)
"""The arrays of `columns` for `unnest`, those of `CHANGING`."""
INSERT = f"""
    INSERT INTO aqueue.job ({", ".join(COLUMNS)})
    SELECT {", ".join(name if name != "tags" else "tags::text[]" for name in COLUMNS)}
    FROM unnest({", ".join(_ARRAYS.values())}) AS new ({", ".join(COLUMNS)})"""
SET = ", ".join(f"{name} = given.{name}" for name in CHANGING if name != "seq")
"""Puts a row `given` of those columns in the place of what a job was."""


def array(values: Iterable[object]) -> str:
    """Values as PostgreSQL writes an array; None is NULL. It is read by the server in a fraction of the time in which
    a driver that looks at each value would have made it, and its type is the same for every value."""
    return "{" + ",".join("NULL" if value is None else _quoted(str(value)) for value in values) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def columns(jobs: Iterable[Job], now: datetime) -> dict[str, str]:
    """Jobs as arrays for `unnest`: each column of all jobs."""
    rows = [_values(job, now) for job in jobs]
    return {name: array(row[place] for row in rows) for place, name in enumerate(COLUMNS)}


def _values(job: Job, now: datetime) -> tuple[object, ...]:
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
        _bytes(job.stdout),
        _bytes(job.stderr),
        len(job.history),
    )


def _bytes(text: str | None) -> str | None:
    """Text that may hold NUL, which PostgreSQL's text may not."""
    return "\\x" + text.encode().hex() if text else None
