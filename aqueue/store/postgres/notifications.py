"""What hosts announce to each other by NOTIFY. A notification is a hint that saves a query: the tables are the truth.

It is sent in the transaction whose change it announces, and so arrives with it; equal ones of a transaction are one.
The tags on the wire are those of version 0.1: pools of several versions may share a database.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from aqueue.jobs.job import Job
from aqueue.store.postgres.connection import Connection
from aqueue.store.postgres.rows import is_ready
from aqueue.store.postgres.statement import execute

CHANNEL = "aqueue"
_NOTIFY = "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload"
_EPOCH = datetime.fromtimestamp(0, UTC)
_DAY = timedelta(days=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) + _DAY).timestamp()
_LAST = (datetime.max.replace(tzinfo=UTC) - _DAY).timestamp()
_MAX_IDS = 40
"""In one notification, which may have 8000 bytes, and an id 128."""


class Ready(msgspec.Struct, tag="Ready", frozen=True):
    """A queue has jobs that can start. `rank` is minus the priority of the first, `due` a POSIX timestamp."""

    queue: str
    rank: int
    due: float


class Scheduled(msgspec.Struct, tag="Later", frozen=True):
    """There are jobs that can start from `due` on, a POSIX timestamp."""

    due: float


class Ended(msgspec.Struct, tag="Ended", frozen=True):
    """Jobs for whose end somebody waits have ended, or were removed."""

    ids: list[str]


class PoolAsked(msgspec.Struct, tag="Told", frozen=True):
    """Some pool is asked, by the tables, to stop or to cancel what it runs."""


class PoolLeft(msgspec.Struct, tag="Left", frozen=True):
    """A pool has stopped."""


Notification = Ready | Scheduled | Ended | PoolAsked | PoolLeft
decode = msgspec.json.Decoder(Notification).decode
_encode = msgspec.json.Encoder().encode


def timestamp(due: float) -> datetime:
    """The time in a notification, or the nearest that exists: anybody may send one."""
    return _EPOCH + timedelta(seconds=min(max(due, _FIRST), _LAST))


def of_waiting(jobs: Iterable[Job], now: datetime) -> list[Notification]:
    """What announces jobs that have begun to wait."""
    first: dict[str, tuple[int, float]] = {}
    scheduled: list[float] = []
    for job in jobs:
        due = job.due_at.timestamp()
        if is_ready(job, now):
            position = (-job.priority, due)
            first[job.queue] = min(first.get(job.queue, position), position)
        else:
            scheduled.append(due)
    ready: list[Notification] = [Ready(queue, rank, due) for queue, (rank, due) in first.items()]
    return [*ready, Scheduled(min(scheduled))] if scheduled else ready


def of_ended(job_ids: list[str]) -> list[Notification]:
    """What announces that jobs have ended, or were removed."""
    return [Ended(job_ids[start : start + _MAX_IDS]) for start in range(0, len(job_ids), _MAX_IDS)]


def of_changed(jobs: Iterable[Job], now: datetime) -> list[Notification]:
    """What announces jobs that have ended or wait again."""
    jobs = list(jobs)
    waiting = of_waiting([job for job in jobs if not job.state.final], now)
    return [*waiting, *of_ended([job.id for job in jobs if job.state.final])]


async def send(connection: Connection, notifications: Iterable[Notification]) -> None:
    """Send notifications, with the transaction that is open."""
    payloads = [_encode(notification).decode() for notification in notifications]
    if payloads:
        await execute(connection, _NOTIFY, (CHANNEL, payloads))
