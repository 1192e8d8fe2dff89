"""The store of a pool on PostgreSQL, which also claims jobs and settles them: see `aqueue.store.protocol.PoolStore`."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from datetime import datetime
from typing import Self

from aqueue.errors import StoreError
from aqueue.jobs import lifecycle
from aqueue.jobs.job import Job, Outcome, utc_now
from aqueue.settings.config import Config
from aqueue.store.postgres import actions, query, rescue, schema
from aqueue.store.postgres.connection import Connection
from aqueue.store.postgres.connection_pool import MAX_CONNECTIONS
from aqueue.store.postgres.notifications import PoolAsked, Ready, Scheduled
from aqueue.store.postgres.pool_tasks import PoolTasks
from aqueue.store.postgres.store import RECHECK_INTERVAL, PostgresStore
from aqueue.store.protocol import PoolControl
from aqueue.system import ensure_private_directory

_log = logging.getLogger("aqueue.store.postgres")
_FLUSH_TIME_LIMIT = 10.0
"""Seconds in which the database must store results that are waited for."""
_EXPIRED_AT_ONCE = 1000
"""Jobs that expire in one transaction."""


class PostgresPoolStore(PostgresStore):
    """Its round trips and its heartbeat have connections of their own (`pool_tasks`)."""

    def __init__(self, config: Config, queues: frozenset[str] = frozenset()) -> None:
        super().__init__(config, max_idle_connections=MAX_CONNECTIONS)
        self.run_id = os.urandom(5).hex()
        self.max_interruptions = config.max_interruptions
        self._queues = queues
        self._tasks = PoolTasks(
            config, queues, self._connections, run=self.run_id, on_change=self._publish, rescue=self._rescue
        )
        self._round_trips = self._tasks.round_trips
        self._listener.on(Ready, self._round_trips.job_ready)
        self._listener.on(Scheduled, self._round_trips.job_scheduled)
        self._listener.on(PoolAsked, lambda _: self._tasks.heartbeat.wake())
        self._listener.on_gap(self._round_trips.sweep)
        self._listener.on_gap(self._tasks.heartbeat.wake)

    @property
    def trouble(self) -> str | None:
        return self._tasks.trouble

    async def __aenter__(self) -> Self:
        ensure_private_directory(self._folder)
        self._tasks.acquire_lock()
        try:
            async with self._connections.acquire() as connection:
                await schema.prepare(connection)
                await self._tasks.heartbeat.join(connection)
        except BaseException:
            await self._connections.close()
            self._tasks.release_lock()
            raise
        self._tasks.start()
        self._listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop_waiting()
        try:
            await self._tasks.stop()
        finally:
            await self._close()
            self._tasks.release_lock()

    def attach(self, pool: PoolControl) -> None:
        self._tasks.attach(pool)

    # For workers

    async def claim(self, worker: int) -> Job:
        return await self._round_trips.claim(worker)

    async def settle(self, job: Job, outcome: Outcome) -> Job:
        now = self._tasks.clock.now()
        ended = lifecycle.settled(job, outcome, now=now, max_interruptions=self.max_interruptions)
        self._round_trips.settle(ended)
        return ended

    async def flush(self) -> None:
        try:
            async with asyncio.timeout(_FLUSH_TIME_LIMIT):
                await self._round_trips.flush()
        except TimeoutError:
            raise StoreError(self.trouble or "the database takes no results") from None

    async def orphaned_jobs(self) -> AsyncIterator[list[Job]]:
        yield self._round_trips.in_flight.jobs()

    def runs_elsewhere(self, job: Job) -> bool:
        return job.seq not in self._round_trips.in_flight

    async def _wait_stored(self, job_ids: Collection[str]) -> None:
        await self._round_trips.wait_stored(job_ids)

    # For the whole pool

    async def wait_drained(self) -> None:
        changed = asyncio.Event()
        unsubscribe = self.subscribe(lambda job: changed.set(), lambda job_id: changed.set())
        try:
            while True:
                changed.clear()
                with suppress(StoreError):  # nobody knows what is left: go on
                    if not self._round_trips.in_flight and not await self._has_unfinished():
                        return
                with suppress(TimeoutError):
                    async with asyncio.timeout(RECHECK_INTERVAL):
                        await changed.wait()
        finally:
            unsubscribe()

    async def _has_unfinished(self) -> bool:
        async with self._connections.acquire() as connection:
            return await query.has_unfinished(connection, self._queues)

    async def prune(self, before: datetime, on_removal: Callable[[Job], None]) -> datetime | None:
        difference = self._tasks.clock.now() - utc_now()
        before += difference
        while True:
            expired, oldest = await self._connections.transact(
                lambda connection: actions.expire(connection, before, _EXPIRED_AT_ONCE)
            )
            for job in expired:
                on_removal(job)
                self._subscribers.publish_removal(job.id)
            if len(expired) < _EXPIRED_AT_ONCE:
                return oldest - difference if oldest else None

    async def _rescue(self, connection: Connection) -> None:
        for line in await rescue.rescue(connection, self.max_interruptions):
            _log.warning("%s", line)
