"""Who wants to know: listeners hear of every durable change, waiters of the end of one job."""

import asyncio
from collections.abc import AsyncIterator, Callable

from aqueue.errors import InvalidRequest, PoolGone
from aqueue.job import Job


class Announcements:
    """Tells of changes, in the order in which they became durable."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Job], None]] = []
        self._gone: list[Callable[[str], None]] = []
        self._waiters: dict[str, list[asyncio.Future[Job | None]]] = {}

    def listen(
        self, hear: Callable[[Job], None], gone: Callable[[str], None] | None = None
    ) -> Callable[[], None]:
        """Call `hear` with each changed job, `gone` with the id of each that was removed; return what ends that."""
        self._listeners.append(hear)
        if gone is not None:
            self._gone.append(gone)

        def stop() -> None:
            if hear in self._listeners:
                self._listeners.remove(hear)
            if gone in self._gone:
                self._gone.remove(gone)

        return stop

    async def end_of(self, name: str) -> Job | None:
        """The job once it has ended; None once it is removed. Raises `PoolGone` if the store closes before."""
        waiter: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(name, [])
        waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            waiters.remove(waiter)
            if not waiters and self._waiters.get(name) is waiters:
                del self._waiters[name]
            raise

    def awaited(self, name: str) -> bool:
        """Whether somebody waits for the end of a job."""
        return name in self._waiters

    def changed(self, job: Job) -> None:
        """Tell that `job` is what it is now."""
        for hear in tuple(self._listeners):
            hear(job)
        if job.state.final:
            self._tell(job.id, job)

    def removed(self, name: str) -> None:
        """Tell that a job is gone."""
        for gone in tuple(self._gone):
            gone(name)
        self._tell(name, None)

    def close(self) -> None:
        """Tell all who still wait that nothing more will happen."""
        for name, waiters in self._waiters.items():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(PoolGone(f"the pool stopped before job {name} had ended"))
        self._waiters.clear()

    def _tell(self, name: str, job: Job | None) -> None:
        for waiter in self._waiters.pop(name, ()):
            if not waiter.done():
                waiter.set_result(job)


class Changes:
    """Every durable change of state from the moment this is made, as an async iterator."""

    lost = False
    """Whether the reader fell behind."""

    def __init__(
        self, listen: Callable[[Callable[[Job], None]], Callable[[], None]], limit: int | None = None
    ) -> None:
        """`limit` is how many changes wait for their reader at most; one who falls behind is told so."""
        self._queue: asyncio.Queue[Job | None] = asyncio.Queue()
        self._limit = limit
        self._deaf = listen(self._hear)

    def _hear(self, job: Job) -> None:
        if self._limit is not None and self._queue.qsize() >= self._limit:
            self.lost = True
            self.end()
        else:
            self._queue.put_nowait(job)

    def end(self) -> None:
        """Let the iteration end, once what has happened so far was seen."""
        self._deaf()
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Job]:
        try:
            while (job := await self._queue.get()) is not None:
                yield job
        finally:
            self._deaf()
        if self.lost:
            raise InvalidRequest(f"the reader fell {self._limit} changes behind: read faster, and ask again")
