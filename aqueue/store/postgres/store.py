"""The jobs of many hosts, in PostgreSQL, for commands and clients: see `aqueue.store.protocol.Store`.

Queries share a few connections; notifications have one of their own. Every change is one transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from typing import Self

import msgspec
from msgspec.structs import replace

from aqueue.jobs import lifecycle
from aqueue.jobs.job import Job, State
from aqueue.jobs.spec import NewJob
from aqueue.settings.config import Config
from aqueue.store.pool_info import PoolInfo
from aqueue.store.postgres import actions, insert, lookup, query, schema
from aqueue.store.postgres.connection_pool import ConnectionPool
from aqueue.store.postgres.heartbeat import SWEEP_INTERVAL
from aqueue.store.postgres.listener import Listener
from aqueue.store.postgres.statement import Statement
from aqueue.store.postgres.waiters import Waiters
from aqueue.store.protocol import Counts, Query
from aqueue.store.subscriptions import OnChange, OnRemoval, Subscribers, Unsubscribe
from aqueue.system import ensure_private_directory

RECHECK_INTERVAL = 1.0
"""Seconds between two looks at what other hosts do, while somebody waits for that."""


class _PoolRow(msgspec.Struct):
    info: str
    stop: str | None
    busy: int


_POOLS = Statement(
    """
    SELECT info::text, stop,
        (SELECT count(*) FROM aqueue.job_active WHERE state = 'processing' AND pool = run) AS busy
    FROM aqueue.pool WHERE beat + lease > clock_timestamp()""",
    _PoolRow,
)


class PostgresStore:
    """Asks and changes; see `aqueue.store.postgres.pool_store` for the store of a pool."""

    def __init__(self, config: Config, *, max_idle_connections: int = 1) -> None:
        self._folder = config.folder
        self._subscribers = Subscribers()
        self._adding = asyncio.Lock()
        self._connections = ConnectionPool(config.store, max_idle=max_idle_connections)
        self._listener = Listener(self._connections)
        self._waiters = Waiters(self._connections, self._listener)

    @property
    def trouble(self) -> str | None:
        return None

    async def __aenter__(self) -> Self:
        ensure_private_directory(self._folder)
        try:
            async with self._connections.acquire() as connection:
                await schema.check(connection)
        except BaseException:
            await self._connections.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop_waiting()
        await self._close()

    def _stop_waiting(self) -> None:
        self._listener.close()
        self._waiters.close()

    async def _close(self) -> None:
        self._subscribers.close()
        await self._listener.stop()
        await self._connections.close()

    # Changes

    async def add(self, specs: Iterable[NewJob], *, if_absent: bool = False) -> list[Job]:
        specs = list(specs)
        async with self._adding:  # whoever came first has the id
            made, existing = await self._connections.transact(
                lambda connection: insert.add_jobs(connection, specs, if_absent=if_absent)
            )
            for job in made:
                self._publish(job)
        fresh = iter(made)
        return [existing[spec.id] if spec.id in existing else next(fresh) for spec in specs]

    async def import_jobs(self, jobs: Sequence[Job]) -> list[Job]:
        made = await self._connections.transact(lambda connection: insert.import_jobs(connection, jobs))
        for job in made:
            self._publish(job)
        return made

    async def cancel(self, job_id: str) -> Job:
        """Also of one that runs on any host: then return when it has ended there, for whatever reason."""
        while True:
            job = await self._change(job_id, lifecycle.cancelled, running=True)
            if job.state is not State.PROCESSING:
                return job
            job = await self._waiters.wait_until(
                job_id, lambda job: job.state is not State.PROCESSING, RECHECK_INTERVAL
            )
            if job.state.final:
                return job

    async def retry(self, job_id: str) -> Job:
        return await self._change(job_id, lifecycle.retried)

    async def _change(self, job_id: str, rule: Callable[..., Job], *, running: bool = False) -> Job:
        """See `actions.change`."""
        await self._wait_stored([job_id])
        after = await self._connections.transact(
            lambda connection: actions.change(connection, job_id, rule, running=running)
        )
        if after.state is not State.PROCESSING:
            self._publish(after)
        return after

    async def remove(self, job_ids: Sequence[str]) -> list[Job]:
        unique = list(dict.fromkeys(job_ids))
        await self._wait_stored(unique)
        removed = await self._connections.transact(lambda connection: actions.remove(connection, unique))
        for job in removed:
            self._subscribers.publish_removal(job.id)
            self._waiters.job_ended(job.id)
        return removed

    # Queries

    async def get(self, job_id: str) -> Job:
        await self._wait_stored([job_id])
        async with self._connections.acquire() as connection:
            return await lookup.get(connection, job_id)

    async def _wait_stored(self, job_ids: Collection[str]) -> None:
        """Return when what has ended here of these jobs is stored: a query about them shall see it."""

    def find(self, query_: Query) -> AsyncIterator[list[Job]]:
        return query.find_jobs(self._connections, query_)

    async def counts(self) -> Counts:
        async with self._connections.acquire() as connection:
            return await query.count_jobs(connection)

    async def next_due(self) -> Job | None:
        async with self._connections.acquire() as connection:
            return await query.next_due(connection)

    async def wait(self, job_id: str) -> Job:
        return await self._waiters.wait_until(job_id, lambda job: job.state.final, SWEEP_INTERVAL)

    def subscribe(self, on_change: OnChange, on_removal: OnRemoval | None = None) -> Unsubscribe:
        return self._subscribers.subscribe(on_change, on_removal)

    def _publish(self, job: Job) -> None:
        self._subscribers.publish_change(job)
        if job.state.final:
            self._waiters.job_ended(job.id)

    # Pools of all hosts

    def runs_elsewhere(self, job: Job) -> bool:
        return True

    async def pools(self) -> list[PoolInfo]:
        async with self._connections.acquire() as connection:
            found = await _POOLS.fetch(connection)
        return sorted(map(_pool_info, found), key=lambda pool: pool.name)

    async def stop_pools(self, runs: Sequence[str], *, now: bool, leave_running: bool) -> None:
        how = "now" if now else "leave" if leave_running else "stop"
        await self._connections.transact(lambda connection: actions.stop_pools(connection, runs, how))
        while any(pool.run in runs for pool in await self.pools()):
            await self._waiters.wait_for_pool_to_leave(RECHECK_INTERVAL)


def _pool_info(row: _PoolRow) -> PoolInfo:
    pool = msgspec.json.decode(row.info, type=PoolInfo)
    return replace(pool, stopping=pool.stopping or row.stop is not None, busy=row.busy)
