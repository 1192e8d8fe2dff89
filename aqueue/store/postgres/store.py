"""The jobs of many hosts, in PostgreSQL. See `aqueue.store.protocol.Store`.

What a pool needs all the time has connections of its own (`serving`), and so have the notices of others
(`listening`); questions share a few. Every change is one transaction.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Self

import msgspec
from msgspec.structs import replace

from aqueue.errors import StoreError
from aqueue.jobs import lifecycle
from aqueue.jobs.job import Job, Outcome, State, utc_now
from aqueue.jobs.spec import NewJob
from aqueue.settings.config import Config
from aqueue.store.pool_info import PoolInfo
from aqueue.store.postgres import adding, finding, reading, rescue, rows, schema, statements, steering
from aqueue.store.postgres.connecting import Connection
from aqueue.store.postgres.links import Links
from aqueue.store.postgres.membership import SWEEP
from aqueue.store.postgres.notices import Notice, Told
from aqueue.store.postgres.serving import Serving
from aqueue.store.postgres.waiting import Waiting
from aqueue.store.protocol import Counts, PoolControl, Query
from aqueue.store.subscriptions import OnChange, OnRemoval, Subscribers, Unsubscribe
from aqueue.system.posix import private_directory

_log = logging.getLogger("aqueue.store.postgres")
_PATIENCE = 10.0
"""Seconds in which the database must take results that are waited for."""
_LOOK = 1.0
"""Seconds between two looks at what other hosts do, while somebody waits for that."""
_PRUNED = 1000
"""Jobs that expire in one transaction."""

_NEXT = f"""
    SELECT {rows.PLAIN} FROM aqueue.job_active
    WHERE NOT ready AND state IN ('pending', 'failed') AND due = ({statements.NEXT_DUE}) ORDER BY seq LIMIT 1"""
_POOLS = """
    SELECT info::text, stop,
        (SELECT count(*) FROM aqueue.job_active WHERE state = 'processing' AND pool = run)
    FROM aqueue.pool WHERE beat + lease > clock_timestamp()"""


class PostgresStore:
    """See `aqueue.store.protocol.Store`."""

    def __init__(self, config: Config, *, queues: frozenset[str] = frozenset(), serve: bool = True) -> None:
        """With `serve` a pool's, else a question's."""
        self.run_id = os.urandom(5).hex()
        self.max_interruptions = config.max_interruptions
        self._folder = config.folder
        self._queues = queues
        self._subscribers = Subscribers()
        self._adding = asyncio.Lock()
        self._links = Links(config.store, many=serve)
        self._waiting = Waiting(self._links, others=self._hear, missed=self._may_have_missed)
        self._serving = (
            Serving(
                config,
                queues,
                self._links,
                run=self.run_id,
                announce=self._changed,
                rescue=self._rescue,
            )
            if serve
            else None
        )

    @property
    def trouble(self) -> str | None:
        return self._serving.trouble if self._serving else None

    async def __aenter__(self) -> Self:
        private_directory(self._folder)
        if self._serving is not None:
            self._serving.take_lock()
        try:
            await self._begin()
        except BaseException:
            await self._links.close()
            if self._serving is not None:
                self._serving.let_go()
            raise
        if self._serving is not None:
            self._serving.start()
            self._waiting.listen()
        return self

    async def _begin(self) -> None:
        async with self._links.asking() as connection:
            if self._serving is None:
                await schema.check(connection)
            else:
                await schema.prepare(connection)
                await self._serving.join(connection)

    async def __aexit__(self, *_: object) -> None:
        self._waiting.close()
        try:
            if self._serving is not None:
                await self._serving.stop()
        finally:
            self._subscribers.close()
            await self._waiting.stop_listening()
            await self._links.close()
            if self._serving is not None:
                self._serving.let_go()

    # For workers

    async def claim(self, worker: int) -> Job:
        return await self._pool.exchange.claim(worker)

    async def settle(self, job: Job, outcome: Outcome) -> Job:
        now = self._pool.clock.now()
        ended = lifecycle.settled(job, outcome, now=now, max_interruptions=self.max_interruptions)
        self._pool.exchange.settle(ended)
        return ended

    async def flush(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._pool.exchange.at_rest()
        except TimeoutError:
            raise StoreError(self.trouble or "the database takes no results") from None

    async def orphaned_jobs(self) -> AsyncIterator[list[Job]]:
        yield [held.job for held in self._pool.exchange.held.values()]

    def attach(self, pool: PoolControl) -> None:
        self._pool.orders = pool
        self._pool.fence.end_commands = pool.end_running

    @property
    def _pool(self) -> Serving:
        assert self._serving is not None, "the store was not opened for a pool"
        return self._serving

    # Subscription

    async def add(self, specs: Iterable[NewJob], *, if_absent: bool = False) -> list[Job]:
        specs = list(specs)
        async with self._adding:  # whoever came first has the id
            made, there = await self._links.change(lambda link: adding.add(link, specs, if_absent=if_absent))
            for job in made:
                self._changed(job)
        fresh = iter(made)
        return [there[spec.id] if spec.id in there else next(fresh) for spec in specs]

    async def import_jobs(self, records: Sequence[Job]) -> list[Job]:
        made = await self._links.change(lambda connection: adding.adopt(connection, records))
        for job in made:
            self._changed(job)
        return made

    async def cancel(self, name: str) -> Job:
        """Also of one that runs on any host: then return when it has ended there, for whatever reason."""
        while True:
            job = await self._steer(name, lifecycle.cancelled, running=True)
            if job.state is not State.PROCESSING:
                return job
            job = await self._waiting.follow(name, lambda job: job.state is not State.PROCESSING, _LOOK)
            if job.state.final:
                return job

    async def retry(self, name: str) -> Job:
        return await self._steer(name, lifecycle.retried)

    async def _steer(self, name: str, rule: Callable[..., Job], *, running: bool = False) -> Job:
        """See `steering.steer`."""
        await self._stored([name])
        after = await self._links.change(lambda link: steering.steer(link, name, rule, running=running))
        if after.state is not State.PROCESSING:
            self._changed(after)
        return after

    async def remove(self, names: Sequence[str]) -> list[Job]:
        wanted = list(dict.fromkeys(names))
        await self._stored(wanted)
        removed = await self._links.change(lambda link: steering.remove(link, wanted))
        for job in removed:
            self._subscribers.publish_removal(job.id)
            self._waiting.tell(job.id)
        return removed

    async def prune(self, before: datetime, on_removal: Callable[[Job], None]) -> datetime | None:
        wrong = self._pool.clock.now() - utc_now()
        before += wrong
        while True:
            expired, oldest = await self._links.change(lambda link: steering.expire(link, before, _PRUNED))
            for job in expired:
                on_removal(job)
                self._subscribers.publish_removal(job.id)
            if len(expired) < _PRUNED:
                return oldest - wrong if oldest else None

    # Questions

    async def get(self, name: str) -> Job:
        await self._stored([name])
        async with self._links.asking() as connection:
            return await reading.one(connection, name)

    async def _stored(self, names: Collection[str]) -> None:
        """What has ended here counts in every answer to a question about it."""
        if self._serving is not None:
            await self._serving.exchange.stored(names)

    def find(self, query: Query) -> AsyncIterator[list[Job]]:
        return finding.pages(self._links, query)

    async def counts(self) -> Counts:
        async with self._links.asking() as connection:
            return await finding.counts(connection)

    async def next_due(self) -> Job | None:
        async with self._links.asking() as connection:
            row = await (await connection.execute(_NEXT)).fetchone()
        return rows.job_of(row) if row else None

    async def wait(self, name: str) -> Job:
        return await self._waiting.follow(name, lambda job: job.state.final, SWEEP)  # a notice may be lost

    async def wait_drained(self) -> None:
        changed = asyncio.Event()
        unsubscribe = self.subscribe(lambda job: changed.set(), lambda name: changed.set())
        try:
            while True:
                changed.clear()
                with suppress(StoreError):  # nobody knows what is left: go on
                    if not self._pool.exchange.held and await self._nothing_left():
                        return
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await changed.wait()
        finally:
            unsubscribe()

    async def _nothing_left(self) -> bool:
        async with self._links.asking() as connection:
            return not await finding.active(connection, self._queues)

    def subscribe(self, on_change: OnChange, on_removal: OnRemoval | None = None) -> Unsubscribe:
        return self._subscribers.subscribe(on_change, on_removal)

    # Other hosts

    def runs_elsewhere(self, job: Job) -> bool:
        return self._serving is None or job.seq not in self._serving.exchange.held

    async def pools(self) -> list[PoolInfo]:
        async with self._links.asking() as connection:
            found = await (await connection.execute(_POOLS)).fetchall()
        pools = [_pool_of(*row) for row in found]
        return sorted(pools, key=lambda pool: pool.name)

    async def stop_pools(self, runs: Sequence[str], *, now: bool, leave_running: bool) -> None:
        how = "now" if now else "leave" if leave_running else "stop"
        await self._links.change(lambda link: steering.stop(link, runs, how))
        while any(pool.run in runs for pool in await self.pools()):
            await self._waiting.pool_left(_LOOK)

    async def _rescue(self, connection: Connection) -> None:
        for line in await rescue.rescue(connection, self.max_interruptions):
            _log.warning("%s", line)

    # Who wants to know

    def _changed(self, job: Job) -> None:
        self._subscribers.publish_change(job)
        if job.state.final:
            self._waiting.tell(job.id)

    def _hear(self, notice: Notice) -> None:
        if self._serving is None:
            return
        if isinstance(notice, Told):
            self._serving.membership.told()
        else:
            self._serving.exchange.hear(notice)

    def _may_have_missed(self) -> None:
        if self._serving is not None:
            self._serving.exchange.sweep()
            self._serving.membership.told()


def _pool_of(info: str, stop: str | None, busy: int) -> PoolInfo:
    pool = msgspec.json.decode(info, type=PoolInfo)
    return replace(pool, stopping=pool.stopping or stop is not None, busy=busy)
