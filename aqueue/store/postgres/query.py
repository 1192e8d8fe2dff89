"""Queries as SQL: which jobs, and how many there are."""

import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from aqueue.jobs.job import Job, State
from aqueue.store.postgres.connection import Connection
from aqueue.store.postgres.connection_pool import ConnectionPool
from aqueue.store.postgres.rows import JobRow, JobWithOutputRow
from aqueue.store.postgres.statement import Statement, columns
from aqueue.store.postgres.statements import SELECT_NEXT_DUE
from aqueue.store.protocol import Counts, Query

_PAGE = 1000
"""Jobs that are read at a time."""
_PAGE_WITH_OUTPUT = 50
_UNFINISHED = ("ready", "state = 'processing'", "state = 'failed'")
"""Conditions each of which has an index of its own."""


class _Count(msgspec.Struct):
    queue: str
    state: str
    count: int


_COUNTS = Statement("SELECT queue, state, count(*) AS count FROM aqueue.job GROUP BY queue, state", _Count)
_NEXT_DUE = Statement(
    f"""
    SELECT {columns(JobRow)} FROM aqueue.job_active
    WHERE NOT ready AND state IN ('pending', 'failed') AND due = ({SELECT_NEXT_DUE}) ORDER BY seq LIMIT 1""",
    JobRow,
)


async def find_jobs(connections: ConnectionPool, query: Query) -> AsyncIterator[list[Job]]:
    """The jobs that match, some at a time; each part is as of the moment in which it is read."""
    conditions, values = _conditions(query)
    order, beyond = ("DESC", "<") if query.newest else ("ASC", ">")
    row: type[JobRow] = JobWithOutputRow if query.output else JobRow
    page = _PAGE_WITH_OUTPUT if query.output else _PAGE
    left = None if query.limit is None else min(query.limit, sys.maxsize)
    last: int | None = None
    while left is None or left > 0:
        size = page if left is None else min(left, page)
        here = conditions if last is None else [*conditions, f"seq {beyond} %(last)s"]
        statement = Statement(
            f"SELECT {columns(row)} FROM aqueue.job WHERE {' AND '.join(here) or 'true'} "
            f"ORDER BY seq {order} LIMIT {size}",
            row,
        )
        async with connections.acquire() as connection:
            found = await statement.fetch(connection, {**values, "last": last})
        if found:
            yield [row.job() for row in found]
        if len(found) < size:
            return
        last = found[-1].seq
        left = None if left is None else left - len(found)


def _conditions(query: Query) -> tuple[list[str], dict[str, Any]]:
    """The query as SQL conditions on `aqueue.job`, and their parameters."""
    ended = {state.final for state in query.states}
    conditions: list[tuple[str, str, Any]] = [
        ("state = ANY(%(states)s)", "states", [state.value for state in query.states]),
        ("ended = %(ended)s", "ended", ended.pop() if len(ended) == 1 else None),
        ("queue = %(queue)s", "queue", query.queue),
        ("%(tag)s = ANY(tags)", "tag", query.tag),
        ("seq = ANY(%(seqs)s)", "seqs", sorted(query.seqs)),
        ("ended AND changed < %(before)s", "before", query.finished_before),
    ]
    used = [condition for condition in conditions if condition[2] not in (None, [])]
    return [sql for sql, _, _ in used], {name: value for _, name, value in used}


async def count_jobs(connection: Connection) -> Counts:
    """How many jobs there are, by queue and state."""
    counts: Counts = defaultdict(lambda: dict.fromkeys(State, 0))
    for row in await _COUNTS.fetch(connection):
        counts[row.queue][State(row.state)] = row.count
    return dict(counts)


async def next_due(connection: Connection) -> Job | None:
    """The job that waits for its time and comes first."""
    row = await _NEXT_DUE.fetch_one(connection)
    return row.job() if row else None


async def has_unfinished(connection: Connection, queues: frozenset[str]) -> bool:
    """Whether a job of these queues (of all if none is named) is ready, running, or waits for a retry."""
    served = "queue = ANY(%(queues)s)" if queues else "true"
    exists = (f"EXISTS (SELECT FROM aqueue.job_active WHERE {condition} AND {served})" for condition in _UNFINISHED)
    return bool(
        await Statement(f"SELECT {' OR '.join(exists)}", bool).fetch_one(connection, {"queues": sorted(queues)})
    )
