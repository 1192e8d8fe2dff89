"""What hosts tell each other by NOTIFY. A notice is a hint that saves a look: the tables are the truth.

Sent in the transaction whose change it tells of, so that it arrives with it; equal ones of a transaction are one.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from aqueue.jobs.job import Job
from aqueue.store.postgres.connection import Connection
from aqueue.store.postgres.rows import is_ready

CHANNEL = "aqueue"
_EPOCH = datetime.fromtimestamp(0, UTC)
_DAY = timedelta(days=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) + _DAY).timestamp()
_LAST = (datetime.max.replace(tzinfo=UTC) - _DAY).timestamp()
_LONGEST = 40
"""Ids in one notice: it may be 8000 bytes long, and an id 128."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """A queue has jobs that can start. `rank` is minus the priority of the first, `due` a POSIX timestamp."""

    queue: str
    rank: int
    due: float


class Later(msgspec.Struct, tag=True, frozen=True):
    """There are jobs that can start from `due` on, a POSIX timestamp."""

    due: float


class Ended(msgspec.Struct, tag=True, frozen=True):
    """Jobs somebody waits for have ended, or were removed."""

    ids: list[str]


class Told(msgspec.Struct, tag=True, frozen=True):
    """Some pool is told to stop, or to cancel what it runs."""


class Left(msgspec.Struct, tag=True, frozen=True):
    """A pool has gone."""


Notification = Ready | Later | Ended | Told | Left
decode = msgspec.json.Decoder(Notification).decode
_encode = msgspec.json.Encoder().encode


def moment(due: float) -> datetime:
    """The time that a notice names, or the nearest that there is: anybody may send one."""
    return _EPOCH + timedelta(seconds=min(max(due, _FIRST), _LAST))


def of_waiting(jobs: Iterable[Job], now: datetime) -> list[Notification]:
    """What there is to tell of jobs that have begun to wait."""
    first: dict[str, tuple[int, float]] = {}
    later: list[float] = []
    for job in jobs:
        due = job.due_at.timestamp()
        if is_ready(job, now):
            place = (-job.priority, due)
            first[job.queue] = min(first.get(job.queue, place), place)
        else:
            later.append(due)
    ready: list[Notification] = [Ready(queue, place[0], place[1]) for queue, place in first.items()]
    return [*ready, Later(min(later))] if later else ready


def of_ended(ids: list[str]) -> list[Notification]:
    """What there is to tell those who wait for jobs."""
    return [Ended(ids[start : start + _LONGEST]) for start in range(0, len(ids), _LONGEST)]


async def send(connection: Connection, notices: Iterable[Notification]) -> None:
    """Send notices, with the transaction that is open."""
    payloads = [_encode(notice).decode() for notice in notices]
    if payloads:
        statement = "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload"
        await connection.execute(statement, (CHANNEL, payloads))
