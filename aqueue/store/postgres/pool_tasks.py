"""What a pool keeps going beside its workers: the round trips, its heartbeat, and its watchdog."""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aqueue import layout
from aqueue.errors import PoolRunning, StoreError
from aqueue.jobs.job import Job
from aqueue.settings.config import Config
from aqueue.store.pool_info import PoolInfo
from aqueue.store.postgres.connection import Connection, time_limit
from aqueue.store.postgres.connection_pool import MAX_RECONNECT_DELAY, ConnectionPool
from aqueue.store.postgres.database_clock import DatabaseClock
from aqueue.store.postgres.heartbeat import Heartbeat
from aqueue.store.postgres.lease import Lease
from aqueue.store.postgres.round_trips import RoundTrips
from aqueue.store.protocol import PoolControl
from aqueue.system import try_lock

_log = logging.getLogger("aqueue.store.postgres")
_STOP_TIME_LIMIT = 5.0
"""Seconds in which the last results must be stored when a pool stops."""


class PoolTasks:
    """The tasks of a pool on a database, from the lock of its directory to its last result."""

    trouble: str | None = None
    """Why the database cannot be reached, while it cannot."""

    def __init__(
        self,
        config: Config,
        queues: frozenset[str],
        connections: ConnectionPool,
        *,
        run: str,
        on_change: Callable[[Job], None],
        rescue: Callable[[Connection], Awaitable[None]],
    ) -> None:
        """`run` names this start of the pool; `on_change` is called with changed jobs; `rescue` rescues the jobs of
        silent pools."""
        self.clock = DatabaseClock()
        self.lease = Lease(config.folder, config.lease, config.kill_after)
        self.round_trips = RoundTrips(
            run,
            queues,
            self.clock,
            on_change=on_change,
            on_late_result=_refuse_late_result,
            lease_is_valid=self.lease.is_valid,
        )
        self.heartbeat = Heartbeat(
            PoolInfo(
                pid=os.getpid(),
                started_at=self.clock.now(),
                workers=config.workers,
                queues=sorted(queues),
                store="",
                run=run,
                host=socket.gethostname(),
                folder=str(config.folder),
            ),
            clock=self.clock,
            lease=self.lease,
            round_trips=self.round_trips,
            rescue=rescue,
            on_success=self._recovered,
        )
        self._connections = connections
        self._folder = config.folder
        self._tasks: list[asyncio.Task[None]] = []
        self._lock = -1

    def acquire_lock(self) -> None:
        """Raises `PoolRunning` if another pool has this pool's directory."""
        lock = try_lock(self._folder / layout.LOCK)
        if lock is None:
            raise PoolRunning(f"another pool has {self._folder}: give this one a directory of its own")
        self._lock = lock

    def release_lock(self) -> None:
        """Let another pool have the directory."""
        os.close(self._lock)

    def attach(self, pool: PoolControl) -> None:
        """Let `pool` do what others ask of it, and what the end of the lease demands."""
        self.heartbeat.control = pool
        self.lease.end_commands = pool.end_running

    def start(self) -> None:
        """Start the tasks."""
        # They reconnect well before half of the lease, or the time for the last results, has passed.
        max_delay = min(MAX_RECONNECT_DELAY, self.lease.seconds / 12)
        connections = self._connections
        self._create_task("round trips", connections.run_dedicated(self.round_trips.run, self._cut_off, max_delay))
        self._create_task("heartbeat", connections.run_dedicated(self.heartbeat.run, self._failed, max_delay))
        self._create_task("watchdog", self.lease.run())

    async def stop(self) -> None:
        """Store the last results, leave the other pools, and end the tasks. Raises `StoreError` if results are left."""
        try:
            async with asyncio.timeout(_STOP_TIME_LIMIT):
                await self.round_trips.flush()
                async with self._connections.acquire() as connection:
                    with time_limit(connection, _STOP_TIME_LIMIT):
                        await self.heartbeat.leave(connection)
        except (TimeoutError, StoreError) as error:
            _log.warning(f"the pool could not sign off: {str(error) or 'the database does not answer'}")
        finally:
            self.round_trips.close()
            self._connections.abort()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.lease.close(holds_jobs=bool(self.round_trips.in_flight))
        left = self.round_trips.in_flight.unstored
        if left:
            raise StoreError(f"{left} results could not be stored: the next pool in {self._folder} stores them")

    def _create_task(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"aqueue {name}")
        task.add_done_callback(self._task_done)
        self._tasks.append(task)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.warning(f"{task.get_name()} failed, the pool stops: {error!r}")
            if self.heartbeat.control is not None:
                self.heartbeat.control.request_stop()

    def _recovered(self) -> None:
        if self.trouble is not None:
            self.trouble = None
            _log.warning("the database is there again")

    def _cut_off(self, error: StoreError) -> None:
        self.round_trips.connection_lost()
        self._failed(error)

    def _failed(self, error: StoreError) -> None:
        if self.trouble is None:
            _log.warning(f"{error}; trying again")
        self.trouble = str(error)


def _refuse_late_result(job: Job) -> None:
    attempt = f"attempt {len(job.history)} of job {job.id}"
    _log.warning(f"{attempt} ended here too late: another pool has taken the job; its result is not counted")
