"""The directory store that the pool which serves it opens: it claims jobs and settles their attempts."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from aqueue.attempts.token import Token
from aqueue.errors import StoreError
from aqueue.jobs import lifecycle
from aqueue.jobs.job import EXPIRING_STATES, Job, Outcome, State, utc_now
from aqueue.store.ids import made_id
from aqueue.store.journal.records import Sync
from aqueue.store.journal.store import JournalStore
from aqueue.store.protocol import PoolControl, Query


class JournalPoolStore(JournalStore):
    """See `aqueue.store.protocol.PoolStore`."""

    def __init__(self, path: Path, queues: frozenset[str] = frozenset(), *, max_interruptions: int = 5) -> None:
        super().__init__(path, queues)
        self.run_id = os.urandom(5).hex()
        self.max_interruptions = max_interruptions

    def attach(self, pool: PoolControl) -> None:
        """Nobody else asks anything of a directory's pool through the store."""

    async def claim(self, worker: int) -> Job:
        while True:
            job = await self._dispatcher.next(self._journal.writable)
            token = Token(self.run_id, worker, job.seq, len(job.history) + 1)
            claimed = lifecycle.claimed(job, worker=worker, token=str(token), now=utc_now())
            self._change(job, claimed)
            try:
                # A claim need not survive a power cut, which ends its command too.
                await self._journal.commit([claimed], partial(self._publish, claimed), synced=False)
            except StoreError:
                self._change(claimed, job)
            except asyncio.CancelledError:
                self._change(claimed, job)
                self._commit_later(self._outputs.with_output(job))
                raise
            else:
                return claimed

    async def settle(self, job: Job, outcome: Outcome) -> Job:
        ended = lifecycle.settled(job, outcome, now=utc_now(), max_interruptions=self.max_interruptions)
        self._change(self._known(job.id), self._outputs.keep(ended))
        self._commit_later(ended, sync_now=self._subscribers.is_awaited(job.id))
        return ended

    async def flush(self) -> None:
        await self._journal.commit([Sync()])

    def orphaned_jobs(self) -> AsyncIterator[list[Job]]:
        return self.find(Query(states=frozenset({State.PROCESSING})))

    async def wait_drained(self) -> None:
        drained = asyncio.Event()

        def check(_: object = None) -> None:
            if self._is_drained():
                drained.set()

        unsubscribe = self.subscribe(check, check)
        try:
            check()
            await drained.wait()
        finally:
            unsubscribe()

    def _is_drained(self) -> bool:
        active = self._table.count((State.PROCESSING, State.FAILED), self._queues)
        return not active and self._dispatcher.idle and not self._outputs.unwritten

    async def prune(self, before: datetime, on_removal: Callable[[Job], None]) -> datetime | None:
        oldest: datetime | None = None
        # With the limit, the search is over before it comes to a backlog that is behind them.
        query = Query(states=EXPIRING_STATES, limit=self._table.count(EXPIRING_STATES))
        async for part in self._table.find(query):
            times = {job.id: job.updated_at or job.created_at for job in part}
            if min(times.values()) < before:
                for job in await self.remove([job_id for job_id, time in times.items() if time < before]):
                    if job.id == made_id(job.seq):
                        self._ids.removed.discard(job.id)  # there may be millions, and none is made twice
                    on_removal(job)
                    del times[job.id]
            oldest = min([*([oldest] if oldest else []), *times.values()], default=None)
        return oldest

    def _commit_later(self, job: Job, *, sync_now: bool = True) -> None:
        self._journal.commit_later([job], partial(self._publish, job), sync_now=sync_now)
