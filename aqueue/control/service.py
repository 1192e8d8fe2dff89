"""Answers a request against a store: the one set of rules, wherever the request comes from.

In a running pool the service belongs to a host, which has workers; a command that finds no pool opens the store for
a moment and lets a service without a host answer.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Protocol

from msgspec.structs import asdict

from aqueue.attempts.files import AttemptFiles
from aqueue.control import requests
from aqueue.control.requests import Find, Ids, Jobs, Overview, Part, Request, Slot
from aqueue.errors import AqueueError, InvalidJob, InvalidRequest
from aqueue.jobs.fields import check_name
from aqueue.jobs.job import FINAL_STATES, Job, State
from aqueue.jobs.spec import NewJob
from aqueue.pool.workers import Workers
from aqueue.store.pool_info import PoolInfo
from aqueue.store.protocol import Query, Store
from aqueue.store.subscriptions import Subscription

_BEHIND = 10_000
"""How many changes wait for a client at most that reads them too slowly."""
_BATCH_LIMIT = 2_000_000
"""How many jobs one request may bring in its parts."""


class Host(Protocol):
    """What a service asks of the pool it belongs to."""

    @property
    def workers(self) -> Workers: ...

    @property
    def info(self) -> PoolInfo: ...

    def request_stop(self, *, now: bool = False, leave_running: bool = False) -> None: ...

    def configure(self, changed: Mapping[str, float | int | str | None]) -> None:
        """Take over settings that were changed. Raises `InvalidConfig`."""
        ...


class Session:
    """One asker's requests, answered one after the other."""

    def __init__(self, store: Store, files: AttemptFiles, host: Host | None = None) -> None:
        self.store = store
        self.files = files
        self.host = host
        self._specs: list[NewJob] = []
        self._records: list[Job] = []
        self._refused = False
        """Whether the rest of a batch is still to come that was refused already."""

    def hold(self, request: Request) -> bool:
        """Check the jobs that a request brings and keep them until the batch is whole; False if it is, or if the
        request brings none: then it is to be answered.

        Raises `InvalidJob`, `InvalidRequest` for a bad part. Nothing of its batch is kept then, and what still comes
        of it is passed over: it has had its answer.
        """
        if not isinstance(request, requests.Enqueue | requests.Import):
            return False
        if self._refused:
            self._refused = request.more
            return True
        try:
            self._keep(request)
        except AqueueError:
            self._specs, self._records = [], []
            self._refused = request.more
            raise
        return request.more

    def _keep(self, part: requests.Enqueue | requests.Import) -> None:
        match part:
            case requests.Enqueue(specs=specs):
                for spec in specs:
                    spec.validate()
                self._specs += specs
            case requests.Import(jobs=records):
                for record in records:
                    _check_record(record)
                self._records += records
        if len(self._specs) + len(self._records) > _BATCH_LIMIT:
            raise InvalidRequest(f"more than {_BATCH_LIMIT} jobs in one batch: split it")

    async def answer(self, request: Request) -> AsyncGenerator[Part, None]:
        """The parts of the answer to a request that `hold` let through. Raises an `AqueueError` where there is none."""
        match request:
            case requests.Enqueue(if_absent=if_absent):
                specs, self._specs = self._specs, []
                yield Jobs(await self.store.add(specs, if_absent=if_absent))
            case requests.Import():
                records, self._records = self._records, []
                yield Jobs(await self.store.import_jobs(records))
            case requests.Get(ids):
                yield Jobs([self._live(await self.store.get(name)) for name in ids])
            case Find():
                async for part in self.store.find(_query(request)):
                    yield Jobs([self._live(job) for job in part])
            case requests.Status():
                yield await self.overview()
            case requests.Wait(ids):
                async for part_ in self._wait(ids):
                    yield part_
            case requests.Watch():
                self._pool()
                async for part_ in self._watch():
                    yield part_
            case requests.Cancel(ids):
                for name in ids:
                    await self.store.get(name)  # all are known, or nothing is cancelled
                yield Jobs(await asyncio.gather(*map(self._cancel, dict.fromkeys(ids))))
            case requests.Retry(ids):
                yield Jobs(await self._retry(ids))
            case requests.Remove(ids, find):
                yield Ids(await self._remove(ids, find))
            case requests.Stop(now, leave_running):
                self._pool().request_stop(now=now, leave_running=leave_running)
            case requests.StopPools(runs, now, leave_running):
                await self.store.stop_pools(runs, now=now, leave_running=leave_running)
            case requests.Configure(changed):
                self._pool().configure(changed)

    async def overview(self) -> Overview:
        """The state of the queue as a whole."""
        pools = await self.store.pools()
        running: list[Job] = []
        if pools:
            everywhere = self.store.find(Query(states=frozenset({State.PROCESSING})))
            running = [job async for part in everywhere for job in part]
        elif self.host is not None:
            running = [command.job for command in self.host.workers.runner.running.values()]
        return Overview(
            counts=await self.store.counts(),
            pool=self.host.info if self.host else None,
            pools=pools,
            busy=sorted((Slot(job.history[-1].worker, self._live(job)) for job in running), key=_slot_place),
            next_due=await self.store.next_due(),
            trouble=self.store.trouble,
        )

    def _live(self, job: Job) -> Job:
        return self.host.workers.live(job) if self.host and job.state is State.PROCESSING else job

    def _pool(self) -> Host:
        if self.host is None:
            raise InvalidRequest("no pool is running")
        return self.host

    async def _wait(self, ids: list[str]) -> AsyncIterator[Part]:
        """The jobs in the order in which they end."""
        if not ids:
            unfinished = frozenset(State) - FINAL_STATES
            ids = [job.id async for part in self.store.find(Query(states=unfinished)) for job in part]
        for name in ids:
            await self.store.get(name)
        ended: asyncio.Queue[asyncio.Task[Job]] = asyncio.Queue()
        waiting = {asyncio.create_task(self.store.wait(name)) for name in dict.fromkeys(ids)}
        try:
            for task in waiting:
                task.add_done_callback(ended.put_nowait)
            for _ in range(len(waiting)):
                yield Jobs([(await ended.get()).result()])
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _watch(self) -> AsyncIterator[Part]:
        changes = Subscription(self.store.subscribe, _BEHIND)
        try:
            async for job in changes:
                yield Jobs([job])
        finally:
            changes.end()

    async def _cancel(self, name: str) -> Job:
        if self.host is not None:
            return await self.host.workers.cancel(name)
        job = await self.store.get(name)
        if job.state is State.PROCESSING and not self.store.runs_elsewhere(job):
            raise InvalidRequest(f"job {name} was left running by a pool that is gone: start a pool, then cancel it")
        return await self.store.cancel(name)

    async def _retry(self, ids: list[str]) -> list[Job]:
        if not ids:
            dead = Query(states=frozenset({State.DEAD}))
            ids = [job.id async for part in self.store.find(dead) for job in part]
        for name in ids:
            job = await self.store.get(name)
            if job.state not in (State.DEAD, State.CANCELLED):
                raise InvalidRequest(f"job {name} is {job.state}: only a dead or cancelled job can be retried")
        return [await self.store.retry(name) for name in dict.fromkeys(ids)]

    async def _remove(self, ids: list[str], find: Find | None) -> list[str]:
        if find is not None:
            if State.PROCESSING in find.states:
                raise InvalidRequest("processing jobs cannot be removed: cancel them first")
            ids = [job.id async for part in self.store.find(_query(find)) for job in part]
        gone = await self.store.remove(ids) if ids else []
        for job in gone:
            self.files.remove_output(job)
        return [job.id for job in gone]


def _check_record(record: Job) -> None:
    """Raise `InvalidJob` unless this can be stored as it is."""
    check_name("id", record.id)
    check_name("queue", record.queue)
    if record.state is State.PROCESSING:
        raise InvalidJob(f"job {record.id} is processing: it must wait or have ended to come in")


def _query(find: Find) -> Query:
    before = find.finished_before.astimezone(UTC) if isinstance(find.finished_before, datetime) else None
    return Query(**{**asdict(find), "states": frozenset(find.states), "finished_before": before})


def _slot_place(slot: Slot) -> tuple[str, int]:
    return slot.job.history[-1].host or "", slot.worker
