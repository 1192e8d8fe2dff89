"""The jobs of many hosts, in PostgreSQL. See `aqueue.store.protocol.Store`.

What a pool needs all the time has connections of its own (`serving`), and so have the notices of others
(`listening`); questions share a few. Every change is one transaction.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Self

import msgspec
from msgspec.structs import replace

from aqueue import lifecycle
from aqueue.config import Config
from aqueue.errors import InvalidRequest, PoolGone, StoreError, UnknownJob
from aqueue.job import Job, Outcome, State, utc_now
from aqueue.platform import private_directory
from aqueue.registry import PoolInfo
from aqueue.spec import JobSpec
from aqueue.store.changes import Announcements
from aqueue.store.postgres import adding, finding, notices, reading, rescue, rows, schema, statements
from aqueue.store.postgres.links import Connection, Links
from aqueue.store.postgres.listening import Listening
from aqueue.store.postgres.membership import SWEEP
from aqueue.store.postgres.notices import Ended, Left, Notice, Told
from aqueue.store.postgres.serving import Serving
from aqueue.store.protocol import Counts, Orders, Query

_PATIENCE = 10.0
"""Seconds in which the database must take results that are waited for."""
_LOOK = 1.0
"""Seconds between two looks at what other hosts do, while somebody waits for that."""
_PRUNED = 1000
"""Jobs that expire in one transaction."""


_ASK_TO_CANCEL = "UPDATE aqueue.job_active SET cancel = true WHERE seq = %s"
_EXPIRE = f"""
    DELETE FROM aqueue.job_ended WHERE seq IN (
        SELECT seq FROM aqueue.job_ended WHERE state IN ('completed', 'cancelled') AND changed < %s
        ORDER BY changed LIMIT %s FOR UPDATE SKIP LOCKED)
    RETURNING {rows.PLAIN}"""
_OLDEST = "SELECT min(changed) FROM aqueue.job_ended WHERE state IN ('completed', 'cancelled')"
_NEXT = f"""
    SELECT {rows.PLAIN} FROM aqueue.job_active WHERE NOT ready AND state IN ('pending', 'failed') AND due = least(
        (SELECT min(due) FROM aqueue.job_active WHERE NOT ready AND state = 'pending'),
        (SELECT min(due) FROM aqueue.job_active WHERE NOT ready AND state = 'failed'))
    ORDER BY seq LIMIT 1"""
_ACTIVE = """
    SELECT EXISTS (
        SELECT FROM aqueue.job_active WHERE (ready OR state IN ('processing', 'failed'))
        AND (queue = ANY(%(queues)s) OR %(queues)s::text[] = '{}'))"""
_POOLS = """
    SELECT info::text, stop,
        (SELECT count(*) FROM aqueue.job_active WHERE state = 'processing' AND pool = run)
    FROM aqueue.pool WHERE beat + lease > clock_timestamp()"""


class PostgresStore:
    """See `aqueue.store.protocol.Store`."""

    def __init__(self, config: Config, *, queues: frozenset[str] = frozenset(), serve: bool = True) -> None:
        """With `serve` a pool's, else a question's."""
        self.run_id = os.urandom(5).hex()
        self.report: Callable[[str], None] = lambda line: None
        self.max_interruptions = config.max_interruptions
        self.notes: list[str] = []
        self._folder = config.folder
        self._queues = queues
        self._announce = Announcements()
        self._ended: dict[str, set[asyncio.Event]] = {}
        self._adding = asyncio.Lock()
        self._pool_left = asyncio.Event()
        self._closed = False
        self._listening: asyncio.Task[None] | None = None
        self._links = Links(config.store, many=serve)
        self._serving = (
            Serving(
                config,
                queues,
                self._links,
                run=self.run_id,
                announce=self._changed,
                rescue=self._rescue,
                report=lambda line: self.report(line),
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
            self._listen()
        return self

    async def _begin(self) -> None:
        async with self._links.asking() as connection:
            if self._serving is None:
                await schema.check(connection)
            else:
                await schema.prepare(connection)
                await self._serving.join(connection)

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        for name in self._ended:
            self._tell(name)
        try:
            if self._serving is not None:
                await self._serving.stop()
        finally:
            self._announce.close()
            if self._listening is not None:
                self._listening.cancel()
                await asyncio.gather(self._listening, return_exceptions=True)
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

    async def left_behind(self) -> AsyncIterator[list[Job]]:
        yield [held.job for held in self._pool.exchange.held.values()]

    def obey(self, orders: Orders) -> None:
        self._pool.orders = orders
        self._pool.fence.end_commands = orders.end_running

    @property
    def _pool(self) -> Serving:
        assert self._serving is not None, "the store was not opened for a pool"
        return self._serving

    # Changes

    async def add(self, specs: Sequence[JobSpec], *, if_absent: bool = False) -> list[Job]:
        async with self._adding:  # whoever came first has the id
            made, there = await self._links.change(lambda link: adding.add(link, specs, if_absent=if_absent))
            for job in made:
                self._changed(job)
        fresh = iter(made)
        return [there[spec.id] if spec.id in there else next(fresh) for spec in specs]

    async def adopt_records(self, records: Sequence[Job]) -> list[Job]:
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
            job = await self._followed(name, lambda job: job.state is not State.PROCESSING, _LOOK)
            if job.state.final:
                return job

    async def retry(self, name: str) -> Job:
        return await self._steer(name, lifecycle.retried)

    async def _steer(self, name: str, rule: Callable[..., Job], *, running: bool = False) -> Job:
        """Change a job by one of the rules of `aqueue.lifecycle`; with `running` ask the pool that has it to."""
        await self._stored([name])

        async def steer(connection: Connection) -> Job:
            before, now = await reading.one(connection, name, lock=True), await reading.now(connection)
            if running and before.state is State.PROCESSING:
                await connection.execute(_ASK_TO_CANCEL, (before.seq,))
                await notices.send(connection, [Told()])
                return before
            after = rule(before, now=now)
            await connection.execute(statements.PUT, rows.columns([after], now))
            told = notices.of_ended([name]) if after.state.final else notices.of_waiting([after], now)
            await notices.send(connection, told)
            return after

        after = await self._links.change(steer)
        if after.state is not State.PROCESSING:
            self._changed(after)
        return after

    async def remove(self, names: Sequence[str]) -> list[Job]:
        wanted = list(dict.fromkeys(names))
        await self._stored(wanted)

        async def remove(connection: Connection) -> list[Job]:
            gone: dict[str, Job] = {}
            for lock in (False, True):  # a lock that is taken in vain would hide a job from claims for a while
                gone = await reading.by_id(connection, wanted, lock=lock)
                for name in wanted:
                    if name not in gone:
                        raise await reading.unknown(connection, name)
                    if gone[name].state is State.PROCESSING:
                        raise InvalidRequest(f"job {name} is processing: cancel it before you remove it")
            await connection.execute(
                "DELETE FROM aqueue.job WHERE seq = ANY(%s)", ([job.seq for job in gone.values()],)
            )
            await notices.send(connection, notices.of_ended(wanted))
            return [gone[name] for name in wanted]

        removed = await self._links.change(remove)
        for job in removed:
            self._announce.removed(job.id)
            self._tell(job.id)
        return removed

    async def expire(self, before: datetime, gone: Callable[[Job], None]) -> datetime | None:
        wrong = self._pool.clock.now() - utc_now()
        before += wrong
        while True:
            async with self._links.asking() as connection:
                expired = await (await connection.execute(_EXPIRE, (before, _PRUNED))).fetchall()
                oldest = await (await connection.execute(_OLDEST)).fetchone()
            for row in expired:
                job = rows.job_of(row)
                gone(job)
                self._announce.removed(job.id)
            if len(expired) < _PRUNED:
                return oldest[0] - wrong if oldest and oldest[0] else None

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
        return await self._followed(name, lambda job: job.state.final, SWEEP)  # a notice may be lost

    async def _followed(self, name: str, wanted: Callable[[Job], bool], look: float) -> Job:
        """The job once it is as `wanted`; look again after so many seconds, and when a notice tells of its end."""
        ended = asyncio.Event()
        self._ended.setdefault(name, set()).add(ended)
        self._listen()
        seen = False
        try:
            while True:
                ended.clear()
                try:
                    job = await self._links.change(lambda connection: reading.awaited(connection, name))
                except UnknownJob:
                    if seen:
                        raise UnknownJob(f"job {name} was removed before it ended") from None
                    raise
                except StoreError:
                    if not seen:
                        raise
                else:
                    if wanted(job):
                        return job
                seen = True
                with suppress(TimeoutError):
                    async with asyncio.timeout(look):
                        await ended.wait()
                if self._closed:
                    raise PoolGone("the pool went away before the job ended")
        finally:
            self._ended[name].discard(ended)
            if not self._ended[name]:
                del self._ended[name]

    async def drained(self) -> None:
        changed = asyncio.Event()
        deaf = self.listen(lambda job: changed.set(), lambda name: changed.set())
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
            deaf()

    async def _nothing_left(self) -> bool:
        async with self._links.asking() as connection:
            row = await (await connection.execute(_ACTIVE, {"queues": sorted(self._queues)})).fetchone()
        return row is not None and not row[0]

    def listen(
        self, hear: Callable[[Job], None], gone: Callable[[str], None] | None = None
    ) -> Callable[[], None]:
        return self._announce.listen(hear, gone)

    # Other hosts

    def elsewhere(self, job: Job) -> bool:
        return self._serving is None or job.seq not in self._serving.exchange.held

    async def pools(self) -> list[PoolInfo]:
        async with self._links.asking() as connection:
            found = await (await connection.execute(_POOLS)).fetchall()
        pools = [_pool_of(*row) for row in found]
        return sorted(pools, key=lambda pool: pool.name)

    async def stop_pools(self, runs: Sequence[str], *, now: bool, leave_running: bool) -> None:
        how = "now" if now else "leave" if leave_running else "stop"

        async def stop(connection: Connection) -> None:
            await connection.execute("UPDATE aqueue.pool SET stop = %s WHERE run = ANY(%s)", (how, list(runs)))
            await notices.send(connection, [Told()])

        await self._links.change(stop)
        self._listen()
        while True:
            self._pool_left.clear()
            if not any(pool.run in runs for pool in await self.pools()):
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._pool_left.wait()

    async def _rescue(self, connection: Connection) -> None:
        for line in await rescue.rescue(connection, self.max_interruptions):
            self.report(line)

    # Who wants to know

    def _changed(self, job: Job) -> None:
        self._announce.changed(job)
        if job.state.final:
            self._tell(job.id)

    def _tell(self, name: str) -> None:
        for ended in self._ended.get(name, ()):
            ended.set()

    def _listen(self) -> None:
        """Hear the notices of other hosts, from now on."""
        if self._listening is None:
            listening = Listening(self._hear, self._may_have_missed)
            self._listening = asyncio.create_task(self._links.held(listening.run_on, lambda error: None))

    def _hear(self, notice: Notice) -> None:
        if isinstance(notice, Ended):
            for name in notice.ids:
                self._tell(name)
        elif isinstance(notice, Left):
            self._pool_left.set()
        elif self._serving is None:
            return
        elif isinstance(notice, Told):
            self._serving.membership.told()
        else:
            self._serving.exchange.hear(notice)

    def _may_have_missed(self) -> None:
        for name in tuple(self._ended):
            self._tell(name)
        if self._serving is not None:
            self._serving.exchange.sweep()
            self._serving.membership.told()


def _pool_of(info: str, stop: str | None, busy: int) -> PoolInfo:
    pool = msgspec.json.decode(info, type=PoolInfo)
    return replace(pool, stopping=pool.stopping or stop is not None, busy=busy)
