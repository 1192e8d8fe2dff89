"""Who waits for something that may happen on any host: the end of a job, or of a pool.

A notice says that it is time to look; since one may be lost, everybody looks now and then anyway.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from aqueue.errors import PoolGone, StoreError, UnknownJob
from aqueue.jobs.job import Job
from aqueue.store.postgres import lookup
from aqueue.store.postgres.connection_pool import ConnectionPool
from aqueue.store.postgres.listener import Listener
from aqueue.store.postgres.notifications import Ended, Left, Notification

_log = logging.getLogger("aqueue.store.postgres")
_PAUSE = 1.0
"""Seconds until listening begins again after it failed as it should not have."""


class Waiters:
    """Those who wait, and the connection that hears of what they wait for; `others` get all other notices."""

    def __init__(
        self,
        links: ConnectionPool,
        *,
        others: Callable[[Notification], None],
        missed: Callable[[], None],
    ) -> None:
        """`missed` is called when notices may have been missed."""
        self._links = links
        self._others = others
        self._missed = missed
        self._ended: dict[str, set[asyncio.Event]] = {}
        self._pool_left = asyncio.Event()
        self._closed = False
        self._listening: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Hear the notices of all hosts, from now on."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._keep_listening(), name="aqueue listening")

    async def _keep_listening(self) -> None:
        """Listen until cancelled: whatever a notice does to those who hear it, the next one must be heard."""
        listening = Listener(self._hear, self._may_have_missed)
        while not self._closed:
            try:
                await self._links.held(listening.run_on, lambda error: None)
                return
            except Exception as error:
                _log.warning("listening for notices failed, and begins again: %r", error)
            await asyncio.sleep(_PAUSE)

    def tell(self, name: str) -> None:
        """Job `name` has ended, or was removed."""
        for ended in self._ended.get(name, ()):
            ended.set()

    def close(self) -> None:
        """Let those go who wait: they get a `PoolGone`."""
        self._closed = True
        self._tell_all()

    async def stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def follow(self, name: str, wanted: Callable[[Job], bool], look: float) -> Job:
        """The job once it is as `wanted`; look again after so many seconds, and when a notice tells of its end.

        Raises `UnknownJob`, `PoolGone`, and `StoreError` if the database cannot be reached at first.
        """
        ended = asyncio.Event()
        self._ended.setdefault(name, set()).add(ended)
        self.listen()
        seen = tried = False
        try:
            while True:
                ended.clear()
                try:
                    job = await self._links.change(lambda connection: lookup.awaited(connection, name))
                except UnknownJob:
                    if seen:
                        raise UnknownJob(f"job {name} was removed before it ended") from None
                    raise
                except StoreError:
                    if not seen and not self._closed:
                        if tried:
                            raise
                        tried = True  # it was perhaps nothing but the connection
                        continue
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

    async def pool_left(self, look: float) -> None:
        """Return when a pool has left, or after so many seconds."""
        self.listen()
        with suppress(TimeoutError):
            async with asyncio.timeout(look):
                await self._pool_left.wait()
        self._pool_left.clear()

    def _hear(self, notice: Notification) -> None:
        if isinstance(notice, Ended):
            for name in notice.ids:
                self.tell(name)
        elif isinstance(notice, Left):
            self._pool_left.set()
        else:
            self._others(notice)

    def _may_have_missed(self) -> None:
        self._tell_all()
        self._missed()

    def _tell_all(self) -> None:
        for name in tuple(self._ended):
            self.tell(name)
