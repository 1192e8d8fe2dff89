"""Queries as SQL: which jobs, and how many there are."""

import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from aqueue.jobs.job import Job, State
from aqueue.store.postgres import rows
from aqueue.store.postgres.connection import Connection
from aqueue.store.postgres.connection_pool import ConnectionPool
from aqueue.store.protocol import Counts, Query

_PAGE = 1000
"""Jobs in one part of an answer."""
_FEW = 50
"""The same, with what they printed."""


async def pages(links: ConnectionPool, query: Query) -> AsyncIterator[list[Job]]:
    """The jobs that match, some at a time; each part is as of the moment in which it is read."""
    wheres, values = _conditions(query)
    order, beyond = ("DESC", "<") if query.newest else ("ASC", ">")
    columns = rows.FULL if query.output else rows.PLAIN
    left = None if query.limit is None else min(query.limit, sys.maxsize)
    last: int | None = None
    while left is None or left > 0:
        size = min(left if left is not None else _PAGE, _FEW if query.output else _PAGE)
        here = [*wheres, f"seq {beyond} %(last)s"] if last is not None else wheres
        statement = (
            f"SELECT {columns} FROM aqueue.job WHERE {' AND '.join(here) or 'true'} ORDER BY seq {order} LIMIT {size}"
        )
        async with links.asking() as connection:
            found = await (await connection.execute(statement, {**values, "last": last})).fetchall()
        if found:
            yield [rows.job_of(row, output=query.output) for row in found]
        if len(found) < size:
            return
        last = found[-1][0]
        left = None if left is None else left - len(found)


def _conditions(query: Query) -> tuple[list[str], dict[str, Any]]:
    """The query as SQL conditions on `aqueue.jobs.job`, and their values."""
    ended = {state.final for state in query.states}
    conditions = {
        "state = ANY(%(states)s)": [state.value for state in query.states],
        "ended = %(ended)s": ended.pop() if len(ended) == 1 else None,
        "queue = %(queue)s": query.queue,
        "%(tag)s = ANY(tags)": query.tag,
        "seq = ANY(%(seqs)s)": sorted(query.seqs),
        "ended AND changed < %(before)s": query.finished_before,
    }
    names = ("states", "ended", "queue", "tag", "seqs", "before")
    given = {
        condition: (name, value)
        for name, (condition, value) in zip(names, conditions.items(), strict=True)
        if value not in (None, [])
    }
    return list(given), dict(given.values())


async def counts(connection: Connection) -> Counts:
    """How many jobs there are, by queue and state."""
    counted: Counts = defaultdict(lambda: dict.fromkeys(State, 0))
    cursor = await connection.execute("SELECT queue, state, count(*) FROM aqueue.job GROUP BY queue, state")
    for queue, state, count in await cursor.fetchall():
        counted[queue][State(state)] = count
    return dict(counted)


async def active(connection: Connection, queues: frozenset[str]) -> bool:
    """Whether a job of these queues (of all if none is named) is ready, running, or waits for a retry."""
    served = "queue = ANY(%(queues)s)" if queues else "true"
    each = (  # three questions, because each has an index of its own
        f"EXISTS (SELECT FROM aqueue.job_active WHERE {state} AND {served})"
        for state in ("ready", "state = 'processing'", "state = 'failed'")
    )
    row = await (await connection.execute(f"SELECT {' OR '.join(each)}", {"queues": sorted(queues)})).fetchone()
    return row is not None and bool(row[0])
