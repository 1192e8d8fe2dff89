"""What a pool keeps going beside its workers: their traffic with the database, its heartbeat, and its guard."""

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from aqueue import layout
from aqueue.errors import PoolRunning, StoreError
from aqueue.jobs.job import Job
from aqueue.settings.config import Config
from aqueue.store.pool_info import PoolInfo
from aqueue.store.postgres.connecting import Connection, patience
from aqueue.store.postgres.exchange import Exchange
from aqueue.store.postgres.fence import Fence
from aqueue.store.postgres.links import LONGEST_WAIT, Links
from aqueue.store.postgres.membership import Membership
from aqueue.store.postgres.timekeeping import Clock
from aqueue.store.protocol import PoolControl
from aqueue.system import platform

_log = logging.getLogger("aqueue.store.postgres")
_LAST_WORDS = 5.0
"""Seconds in which the last results must be stored when a pool ends."""


class Serving:
    """A pool on a database, from the lock of its directory to its last result."""

    def __init__(
        self,
        config: Config,
        queues: frozenset[str],
        links: Links,
        *,
        run: str,
        announce: Callable[[Job], None],
        rescue: Callable[[Connection], Awaitable[None]],
    ) -> None:
        """`run` names this start of the pool; `announce` hears of changed jobs; `rescue` looks
        after pools that have fallen silent."""
        self.clock = Clock()
        self.fence = Fence(config.folder, config.lease, config.kill_after)
        self.exchange = Exchange(run, queues, self.clock, announce=announce, late=self._late, safe=self.fence.holds)
        self.trouble: str | None = None
        self.orders: PoolControl | None = None
        self._links = links
        self._folder = config.folder
        self._lease = config.lease
        self._rescue = rescue
        self._base = PoolInfo(
            pid=os.getpid(),
            started_at=self.clock.now(),
            workers=config.workers,
            queues=sorted(queues),
            store="",
            run=run,
            host=socket.gethostname(),
            folder=str(config.folder),
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._lock = -1

    def take_lock(self) -> None:
        """Raises `PoolRunning` if another pool has this pool's directory."""
        lock = platform.try_lock(self._folder / layout.LOCK)
        if lock is None:
            raise PoolRunning(f"another pool has {self._folder}: give this one a directory of its own")
        self._lock = lock

    def let_go(self) -> None:
        os.close(self._lock)

    async def join(self, connection: Connection) -> None:
        """Become a pool among the others."""
        self.membership = Membership(self, self._home(), self._lease, self._rescue)
        await self.membership.join(connection)

    @property
    def info(self) -> PoolInfo:
        """This pool as the others see it."""
        if self.orders is None:
            return self._base
        base = self._base
        return replace(self.orders.info, run=base.run, host=base.host, folder=base.folder)

    def start(self) -> None:
        """Keep all that going."""
        # They are tried again well before half of the lease, or the time for the last results, has gone by.
        often = min(LONGEST_WAIT, self._lease / 12)
        self._keep("traffic", self._links.held(self.exchange.run_on, self._cut_off, often))
        self._keep("heartbeat", self._links.held(self.membership.run_on, self._failed, often))
        self._keep("guard", self.fence.run())

    async def stop(self) -> None:
        """Store the last results, leave, and end what was kept going. Raises `StoreError` if results are left over."""
        try:
            async with asyncio.timeout(_LAST_WORDS):
                await self.exchange.at_rest()
                async with self._links.asking() as connection:
                    with patience(connection, _LAST_WORDS):
                        await self.membership.leave(connection)
        except (TimeoutError, StoreError) as error:
            _log.warning(f"the pool could not take its leave: {str(error) or 'the database does not answer'}")
        finally:
            self.exchange.close()
            self._links.abandon()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.fence.close(held=bool(self.exchange.held))
        left = len(self.exchange.unsettled)
        if left:
            raise StoreError(f"{left} results could not be stored: the next pool in {self._folder} stores them")

    def _keep(self, name: str, task: Coroutine[Any, Any, None]) -> None:
        kept = asyncio.create_task(task, name=f"aqueue {name}")
        kept.add_done_callback(self._ended)
        self._tasks.append(kept)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.warning(f"{task.get_name()} failed, the pool stops: {error!r}")
            if self.orders is not None:
                self.orders.request_stop()

    def well(self) -> None:
        """A heartbeat has been written."""
        if self.trouble is not None:
            self.trouble = None
            _log.warning("the database is there again")

    def _cut_off(self, error: StoreError) -> None:
        self.exchange.lost()
        self._failed(error)

    def _failed(self, error: StoreError) -> None:
        if self.trouble is None:
            _log.warning(f"{error}; trying again")
        self.trouble = str(error)

    def _late(self, job: Job) -> None:
        attempt = f"attempt {len(job.history)} of job {job.id}"
        _log.warning(f"{attempt} ended here too late: another pool has taken the job; its result is not counted")

    def _home(self) -> str:
        """A name for the directory that no other host's has."""
        file = self._folder / layout.HOST_ID
        name = file.read_text().strip() if file.exists() else ""
        if not name:  # also where a power cut has left nothing of it
            name = uuid.uuid4().hex
            file.write_text(name + "\n")
        return name
