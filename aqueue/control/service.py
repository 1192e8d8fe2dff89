"""Answers requests against a store: the one set of rules, wherever a request comes from.

In a running pool the service acts through the pool too; where none runs, a command opens the store for a moment and
lets a service without a pool answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from msgspec.structs import asdict

from aqueue.control import requests
from aqueue.control.requests import Find, Ids, Jobs, Overview, Part, Request, Slot
from aqueue.errors import InvalidRequest
from aqueue.jobs.job import FINAL_STATES, Job, State
from aqueue.jobs.lifecycle import check_retryable
from aqueue.store.pool_info import PoolInfo
from aqueue.store.protocol import Query, Store
from aqueue.store.subscriptions import Subscription

T = TypeVar("T")

MAX_CHANGES_BEHIND = 10_000
"""How many changes wait for a client at most that reads them too slowly."""


class Workers(Protocol):
    """What a service needs of a pool's workers."""

    def running_jobs(self) -> list[Job]:
        """The jobs whose commands run."""
        ...

    def live(self, job: Job) -> Job:
        """`job` as it is this moment: with its process id, and what it has printed so far, if it runs here."""
        ...

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job, ending its command if it runs. Raises `UnknownJob`, `InvalidRequest`."""
        ...


class RunningPool(Protocol):
    """What a service needs of the pool that it belongs to."""

    @property
    def workers(self) -> Workers: ...

    @property
    def info(self) -> PoolInfo: ...

    def request_stop(self, *, now: bool = False, leave_running: bool = False) -> None: ...

    def configure(self, changed: Mapping[str, float | int | str | None]) -> None:
        """Apply settings that were changed. Raises `InvalidConfig`."""
        ...


class Service:
    """Answers whole requests: those whose batches `aqueue.control.assembly` has put together."""

    def __init__(self, store: Store, remove_output: Callable[[Job], None], pool: RunningPool | None = None) -> None:
        """`remove_output` removes the files with what a job printed."""
        self.store = store
        self.pool = pool
        self._remove_output = remove_output
        self._watches: set[Subscription] = set()

    async def answer(self, request: Request) -> AsyncGenerator[Part, None]:
        """The parts of the answer. Raises an `AqueueError` where there is none."""
        match request:
            case requests.Enqueue(specs, if_absent):
                yield Jobs(await self.store.add(_consumed(specs), if_absent=if_absent))
            case requests.Import(jobs):
                yield Jobs(await self.store.import_jobs(jobs))
            case requests.Get(ids):
                yield Jobs([self._live(await self.store.get(job_id)) for job_id in ids])
            case Find():
                async for found in self.store.find(_query(request)):
                    yield Jobs([self._live(job) for job in found])
            case requests.Status():
                yield await self._overview()
            case requests.Wait(ids):
                async with aclosing(self._wait(ids)) as ended:
                    async for job in ended:
                        yield Jobs([job])
            case requests.Watch():
                async with aclosing(self._watch()) as changed:
                    async for job in changed:
                        yield Jobs([job])
            case requests.Cancel(ids):
                yield Jobs(await self._cancel(ids))
            case requests.Retry(ids):
                yield Jobs(await self._retry(ids))
            case requests.Remove(ids, find):
                yield Ids(await self._remove(ids, find))
            case requests.Stop(now, leave_running):
                self._running_pool().request_stop(now=now, leave_running=leave_running)
            case requests.StopPools(runs, now, leave_running):
                await self.store.stop_pools(runs, now=now, leave_running=leave_running)
            case requests.Configure(changed):
                self._running_pool().configure(changed)

    def end_watches(self) -> None:
        """End the answers to `Watch`, which go on until the pool stops, once what has happened so far was read."""
        for changes in tuple(self._watches):
            changes.end()

    async def _overview(self) -> Overview:
        pools = await self.store.pools()
        running: list[Job] = []
        if pools:
            running = await self._found(Query(states=frozenset({State.PROCESSING})))
        elif self.pool is not None:
            running = self.pool.workers.running_jobs()
        return Overview(
            counts=await self.store.counts(),
            pool=self.pool.info if self.pool else None,
            pools=pools,
            busy=sorted((Slot(job.history[-1].worker, self._live(job)) for job in running), key=_by_host_and_slot),
            next_due=await self.store.next_due(),
            trouble=self.store.trouble,
        )

    async def _wait(self, ids: Sequence[str]) -> AsyncGenerator[Job, None]:
        """The jobs in the order in which they end."""
        if not ids:
            ids = [job.id for job in await self._found(Query(states=frozenset(State) - FINAL_STATES))]
        await self._check_known(ids)
        ended: asyncio.Queue[asyncio.Task[Job]] = asyncio.Queue()
        waiting = {asyncio.create_task(self.store.wait(job_id)) for job_id in dict.fromkeys(ids)}
        try:
            for task in waiting:
                task.add_done_callback(ended.put_nowait)
            for _ in range(len(waiting)):
                yield (await ended.get()).result()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _watch(self) -> AsyncGenerator[Job, None]:
        self._running_pool()
        changes = Subscription(self.store.subscribe, MAX_CHANGES_BEHIND)
        self._watches.add(changes)
        try:
            async for job in changes:
                yield job
        finally:
            self._watches.discard(changes)
            changes.end()

    async def _cancel(self, ids: Sequence[str]) -> list[Job]:
        await self._check_known(ids)
        return list(await asyncio.gather(*map(self._cancel_one, dict.fromkeys(ids))))

    async def _cancel_one(self, job_id: str) -> Job:
        if self.pool is not None:
            return await self.pool.workers.cancel(job_id)
        job = await self.store.get(job_id)
        if job.state is State.PROCESSING and not self.store.runs_elsewhere(job):
            raise InvalidRequest(f"job {job_id} was left running by a pool that is gone: start a pool, then cancel it")
        return await self.store.cancel(job_id)

    async def _retry(self, ids: Sequence[str]) -> list[Job]:
        if not ids:
            ids = [job.id for job in await self._found(Query(states=frozenset({State.DEAD})))]
        for job_id in ids:
            check_retryable(await self.store.get(job_id))  # of all, or nothing is retried
        return [await self.store.retry(job_id) for job_id in dict.fromkeys(ids)]

    async def _remove(self, ids: Sequence[str], find: Find | None) -> list[str]:
        if find is not None:
            if State.PROCESSING in find.states:
                raise InvalidRequest("processing jobs cannot be removed: cancel them first")
            ids = [job.id for job in await self._found(_query(find))]
        removed = await self.store.remove(ids) if ids else []
        for job in removed:
            self._remove_output(job)
        return [job.id for job in removed]

    async def _found(self, query: Query) -> list[Job]:
        return [job async for found in self.store.find(query) for job in found]

    async def _check_known(self, ids: Sequence[str]) -> None:
        """Raise `UnknownJob` unless all are known: otherwise nothing is done to any."""
        for job_id in ids:
            await self.store.get(job_id)

    def _live(self, job: Job) -> Job:
        return self.pool.workers.live(job) if self.pool and job.state is State.PROCESSING else job

    def _running_pool(self) -> RunningPool:
        if self.pool is None:
            raise InvalidRequest("no pool is running")
        return self.pool


def _query(find: Find) -> Query:
    before = find.finished_before.astimezone(UTC) if isinstance(find.finished_before, datetime) else None
    return Query(**{**asdict(find), "states": frozenset(find.states), "finished_before": before})


def _by_host_and_slot(slot: Slot) -> tuple[str, int]:
    return slot.job.history[-1].host or "", slot.worker


def _consumed(items: list[T]) -> Iterator[T]:
    """The items, none of which the list keeps: of a long batch, specs and jobs need not be in memory at once."""
    items.reverse()
    while items:
        yield items.pop()
