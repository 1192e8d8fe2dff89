"""Who waits for something that may happen on any host: the end of a job, or of a pool.

A notification says that it is time to look; since one may be lost, every waiter looks now and then anyway.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aqueue.errors import PoolGone, StoreError, UnknownJob
from aqueue.jobs.job import Job
from aqueue.store.postgres import lookup
from aqueue.store.postgres.connection_pool import ConnectionPool
from aqueue.store.postgres.listener import Listener
from aqueue.store.postgres.notifications import Ended, PoolLeft


class Waiters:
    """Those who wait; whoever begins to starts the listener."""

    def __init__(self, connections: ConnectionPool, listener: Listener) -> None:
        self._connections = connections
        self._listener = listener
        self._events: dict[str, set[asyncio.Event]] = {}
        """By the id of the job that is waited for."""
        self._pool_left = asyncio.Event()
        self._closed = False
        listener.on(Ended, self._jobs_ended)
        listener.on(PoolLeft, lambda _: self._pool_left.set())
        listener.on_gap(self._wake_all)

    def job_ended(self, job_id: str) -> None:
        """A job has ended, or was removed."""
        for event in self._events.get(job_id, ()):
            event.set()

    def close(self) -> None:
        """End all waits with `PoolGone`."""
        self._closed = True
        self._wake_all()

    async def wait_until(self, job_id: str, condition: Callable[[Job], bool], recheck: float) -> Job:
        """The job once it meets `condition`, which is tried when its end is announced, and every `recheck` seconds.

        Raises `UnknownJob`, `PoolGone`, and `StoreError` if the database cannot be reached at first.
        """
        event = asyncio.Event()
        self._events.setdefault(job_id, set()).add(event)
        self._listener.start()
        seen = tried = False
        try:
            while True:
                event.clear()
                try:
                    job = await self._connections.transact(lambda connection: lookup.await_end(connection, job_id))
                except UnknownJob:
                    if seen:
                        raise UnknownJob(f"job {job_id} was removed before it ended") from None
                    raise
                except StoreError:
                    if not seen and not self._closed:
                        if tried:
                            raise
                        tried = True  # it was perhaps nothing but the connection
                        continue
                else:
                    if condition(job):
                        return job
                seen = True
                with suppress(TimeoutError):
                    async with asyncio.timeout(recheck):
                        await event.wait()
                if self._closed:
                    raise PoolGone("the pool went away before the job ended")
        finally:
            self._events[job_id].discard(event)
            if not self._events[job_id]:
                del self._events[job_id]

    async def wait_for_pool_to_leave(self, seconds: float) -> None:
        """Return when some pool has left, or after so many seconds."""
        self._listener.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._pool_left.wait()
        self._pool_left.clear()

    def _jobs_ended(self, notification: Ended) -> None:
        for job_id in notification.ids:
            self.job_ended(job_id)

    def _wake_all(self) -> None:
        for job_id in tuple(self._events):
            self.job_ended(job_id)
