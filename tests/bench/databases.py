"""Databases of any size for measurements: one server for a whole run, and jobs that the database itself makes."""

import asyncio
import atexit
import contextlib
import functools
from collections.abc import Iterator

import psycopg

from aqueue.store.postgres import schema
from tests.bench.sandbox import Sandbox, sandbox
from tests.databases import Server, server

_MOMENT = "2026-01-01T00:00:00.000000Z"
"""When all these jobs were enqueued, and became due."""
_WAITING = f"""
    INSERT INTO aqueue.job (seq, ended, id, state, queue, rank, due, ready, tags, changed, record)
    SELECT seq, false, 'j' || seq, 'pending', 'default', -%(priority)s, '{_MOMENT}', true, '{{}}', '{_MOMENT}',
        json_build_object('id', 'j' || seq, 'seq', seq, 'command', %(command)s::text, 'created_at', '{_MOMENT}',
                          'priority', %(priority)s, 'cwd', '/')
    FROM (SELECT nextval('aqueue.job_seq') AS seq FROM generate_series(1, %(count)s)) AS numbers"""
_ENDED = f"""
    INSERT INTO aqueue.job (seq, ended, id, state, queue, rank, due, ready, tags, changed, record, begun)
    SELECT seq, true, 'j' || seq, 'completed', 'default', 0, '{_MOMENT}', false, '{{}}', now(),
        json_build_object('id', 'j' || seq, 'seq', seq, 'command', 'true', 'created_at', '{_MOMENT}',
                          'state', 'completed', 'attempts', 1, 'cwd', '/'), 1
    FROM (SELECT nextval('aqueue.job_seq') AS seq FROM generate_series(1, %(count)s)) AS numbers"""
_FIRST = "SELECT count(*), min((record -> 'history' -> 0 ->> 'started_at')::timestamptz) FROM aqueue.job_ended"


@functools.cache
def _server() -> Server:
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(server())


@contextlib.contextmanager
def database() -> Iterator[str]:
    """The URL of a database with empty tables, for the length of a `with` block."""
    url = _server().database()
    try:
        asyncio.run(_prepare(url))
        yield url
    finally:
        _server().drop(url)


async def _prepare(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await schema.prepare(connection)


@contextlib.contextmanager
def shared_sandbox(url: str) -> Iterator[Sandbox]:
    """A sandbox whose pool works on the database, as one host; its directory is the sandbox's `store`."""
    with sandbox() as box:
        box.environ |= {"AQUEUE_STORE": url, "AQUEUE_DIRECTORY": str(box.store)}
        yield box


def fill(url: str, waiting: int, *, ended: int = 0, command: str = "true", priority: int = 0) -> None:
    """Add jobs that can start, and jobs that have succeeded."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO aqueue.queue VALUES ('default')")
        connection.execute(_WAITING, {"count": waiting, "command": command, "priority": priority})
        connection.execute(_ENDED, {"count": ended})
        connection.execute("VACUUM ANALYZE aqueue.job")
        connection.execute("CHECKPOINT")  # so that what was added is not still being written while somebody measures


def ended_since(url: str) -> tuple[int, float]:
    """How many jobs have ended, and when the first of them was started, as a POSIX timestamp."""
    with psycopg.connect(url) as connection:
        row = connection.execute(_FIRST).fetchone()
    assert row is not None
    return row[0], row[1].timestamp()
