"""Durable changes, published: subscribers are called with each of them, waiters get the end of one job."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from aqueue.errors import InvalidRequest, PoolGone
from aqueue.jobs.job import Job

_log = logging.getLogger("aqueue.store")

OnChange = Callable[[Job], None]
OnRemoval = Callable[[str], None]
Unsubscribe = Callable[[], None]


class Subscribers:
    """Publishes changes, in the order in which they became durable."""

    def __init__(self) -> None:
        self._on_change: list[OnChange] = []
        self._on_removal: list[OnRemoval] = []
        self._waiters: dict[str, list[asyncio.Future[Job | None]]] = {}

    def subscribe(self, on_change: OnChange, on_removal: OnRemoval | None = None) -> Unsubscribe:
        """Call `on_change` with each changed job, `on_removal` with the id of each that was removed."""
        self._on_change.append(on_change)
        if on_removal is not None:
            self._on_removal.append(on_removal)

        def unsubscribe() -> None:
            if on_change in self._on_change:
                self._on_change.remove(on_change)
            if on_removal in self._on_removal:
                self._on_removal.remove(on_removal)

        return unsubscribe

    async def wait_for_end(self, job_id: str) -> Job | None:
        """The job once it has ended; None once it is removed. Raises `PoolGone` if the store closes before."""
        waiter: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(job_id, [])
        waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            waiters.remove(waiter)
            if not waiters and self._waiters.get(job_id) is waiters:
                del self._waiters[job_id]
            raise

    def is_awaited(self, job_id: str) -> bool:
        """Whether somebody waits for the end of a job."""
        return job_id in self._waiters

    def publish_change(self, job: Job) -> None:
        """`job` is what it is now."""
        for on_change in tuple(self._on_change):
            try:
                on_change(job)
            except Exception:  # it is that subscriber's, and no reason to stop for all others
                _log.exception("a subscriber failed on a change of job %s", job.id)
        if job.state.final:
            self._release_waiters(job.id, job)

    def publish_removal(self, job_id: str) -> None:
        """A job is gone."""
        for on_removal in tuple(self._on_removal):
            try:
                on_removal(job_id)
            except Exception:
                _log.exception("a subscriber failed on the removal of job %s", job_id)
        self._release_waiters(job_id, None)

    def close(self) -> None:
        """Raise `PoolGone` for all who still wait: nothing more will happen."""
        for job_id, waiters in self._waiters.items():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(PoolGone(f"the pool stopped before job {job_id} had ended"))
        self._waiters.clear()

    def _release_waiters(self, job_id: str, job: Job | None) -> None:
        for waiter in self._waiters.pop(job_id, ()):
            if not waiter.done():
                waiter.set_result(job)


class Subscription:
    """Every durable change of state from the moment this is made, as an async iterator."""

    overflowed = False
    """Whether the reader fell behind by more than the limit."""

    def __init__(self, subscribe: Callable[[OnChange], Unsubscribe], limit: int | None = None) -> None:
        """`limit` is how many changes wait for their reader at most; one who falls behind gets `InvalidRequest`."""
        self._queue: asyncio.Queue[Job | None] = asyncio.Queue()
        self._limit = limit
        self._unsubscribe = subscribe(self._on_change)

    def _on_change(self, job: Job) -> None:
        if self._limit is not None and self._queue.qsize() >= self._limit:
            self.overflowed = True
            self.end()
        else:
            self._queue.put_nowait(job)

    def end(self) -> None:
        """Let the iteration end, once what has happened so far was read."""
        self._unsubscribe()
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Job]:
        try:
            while (job := await self._queue.get()) is not None:
                yield job
        finally:
            self._unsubscribe()
        if self.overflowed:
            raise InvalidRequest(f"the reader fell {self._limit} changes behind: read faster, and subscribe again")
