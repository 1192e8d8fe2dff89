"""The heartbeat of a pool: its row among the pools of all hosts, and what others ask of it through the tables.

A pool that has not written a heartbeat for the length of its lease has lost its jobs to whoever rescues them
(`rescue`), so by then its commands must have ended: they are ended when half of the lease has passed (`lease`).
Leases are judged by the database's clock, and kept by this host's monotonic one.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from aqueue import layout
from aqueue.store.pool_info import PoolInfo
from aqueue.store.postgres import notifications
from aqueue.store.postgres.connection import Connection, time_limit
from aqueue.store.postgres.database_clock import DatabaseClock
from aqueue.store.postgres.lease import Lease
from aqueue.store.postgres.round_trips import RoundTrips
from aqueue.store.postgres.rows import ClaimedJob, JobRow
from aqueue.store.postgres.statement import Statement, columns, execute
from aqueue.store.protocol import PoolControl
from aqueue.system import clock

_log = logging.getLogger("aqueue.store.postgres")
SWEEP_INTERVAL = 30.0
"""Seconds between two looks at everything that a notification should have announced."""
_HEARTBEATS = 4
"""In the length of a lease."""


class _Beat(msgspec.Struct):
    now: datetime
    stop: str | None


class _CancelledRow(msgspec.Struct):
    id: str
    seq: int


_JOIN = Statement(
    """
    INSERT INTO aqueue.pool (run, host, home, info, beat, lease)
    VALUES (%(run)s, %(host)s, %(home)s, %(info)s, clock_timestamp(), %(lease)s) RETURNING beat AS now, stop""",
    _Beat,
)
_REPLACE = Statement(
    "DELETE FROM aqueue.pool WHERE home = %(home)s AND host = %(host)s AND run <> %(run)s RETURNING run", str
)
_TAKE_OVER = Statement(
    f"""
    UPDATE aqueue.job_active SET pool = %(run)s WHERE state = 'processing' AND pool = ANY(%(replaced)s)
    RETURNING {columns(JobRow)}""",
    JobRow,
)
_BEAT = Statement(
    """
    UPDATE aqueue.pool SET beat = clock_timestamp(), info = %(info)s, lease = %(lease)s WHERE run = %(run)s
    RETURNING clock_timestamp() AS now, stop""",
    _Beat,
)
_LEAVE = "DELETE FROM aqueue.pool WHERE run = %s"
_CANCELLED = Statement(
    f"SELECT {columns(_CancelledRow)} FROM aqueue.job_active WHERE state = 'processing' AND pool = %s AND cancel",
    _CancelledRow,
)


class Heartbeat:
    """The row of one pool, kept alive."""

    control: PoolControl | None = None
    """The pool, once it serves the store."""

    def __init__(
        self,
        pool: PoolInfo,
        *,
        clock: DatabaseClock,
        lease: Lease,
        round_trips: RoundTrips,
        rescue: Callable[[Connection], Awaitable[None]],
        on_success: Callable[[], None],
    ) -> None:
        """`rescue` rescues the jobs of other pools; `on_success` is called with every heartbeat."""
        self._pool = pool
        self._home = ""
        self._clock = clock
        self._lease = lease
        self._round_trips = round_trips
        self._rescue = rescue
        self._on_success = on_success
        self._woken = asyncio.Event()
        self._swept_at = float("-inf")
        self._lost_at: float | None = None
        self._stop: str | None = None
        self._leaving = False
        self._rejoining = asyncio.Lock()

    @property
    def info(self) -> PoolInfo:
        """This pool as the others see it."""
        if self.control is None:
            return self._pool
        return replace(self.control.info, run=self._pool.run, host=self._pool.host, folder=self._pool.folder)

    async def join(self, connection: Connection) -> None:
        """Insert the row, and take over what an earlier pool of this directory, which is gone, has left."""
        self._home = _home_id(Path(self._pool.folder))
        row = self._row()
        async with connection.transaction():
            replaced = await _REPLACE.fetch(connection, row)
            sent_at = clock.monotonic()
            joined = await _JOIN.fetch_one(connection, row)
            assert joined is not None
            self._clock.set(joined.now, sent_at)
            for left in await _TAKE_OVER.fetch(connection, {**row, "replaced": replaced}):
                self._round_trips.in_flight.add(ClaimedJob.from_row(left))
        self._lease.renew(sent_at)

    async def leave(self, connection: Connection) -> None:
        """Delete the row, unless there are jobs for the next pool of this directory to take over. From now on no
        heartbeat that does not find it inserts it again."""
        self._leaving = True
        if not self._round_trips.in_flight:
            async with self._rejoining, connection.transaction():
                await execute(connection, _LEAVE, (self.info.run,))
                await notifications.send(connection, [notifications.PoolLeft()])

    def wake(self) -> None:
        """Look at once at what others ask of this pool."""
        self._woken.set()

    async def run(self, connection: Connection) -> None:
        """Send heartbeats over `connection`, and do what is to be done with them, until that fails."""
        try:
            while True:
                self._woken.clear()
                with time_limit(connection, self._lease.seconds / 6):
                    joined = await self._beat(connection)
                if not joined:
                    await self._start_over(connection)
                    continue
                with time_limit(connection, self._lease.seconds / 6):
                    await self._look_around(connection)
                try:
                    async with asyncio.timeout(self._lease.seconds / _HEARTBEATS):
                        await self._woken.wait()
                except TimeoutError:
                    continue
        finally:
            self._lost_at = clock.monotonic()

    def _row(self) -> dict[str, Any]:
        info = self.info
        return {
            "run": info.run,
            "host": info.host,
            "home": self._home,
            "info": msgspec.json.encode(info).decode(),
            "lease": timedelta(seconds=self._lease.seconds),
        }

    async def _start_over(self, connection: Connection) -> None:
        """Join again as a pool without jobs: those that it had are another's now, and may be claimed by this one again
        only when their commands have ended here."""
        _log.warning("this pool was silent for longer than its lease, or its tables were emptied: it starts over")
        self._lease.end_commands("interrupted: the lease of its pool ran out")
        await self._round_trips.in_flight.wait_ended()
        async with self._rejoining:
            if not self._leaving:
                with time_limit(connection, self._lease.seconds / 6):
                    await _JOIN.fetch(connection, self._row())

    async def _beat(self, connection: Connection) -> bool:
        """Renew the lease; return False if another pool has ended it."""
        sent_at = clock.monotonic()
        beat = await _BEAT.fetch_one(connection, self._row())
        if beat is None:
            return self._leaving
        if self._clock.set(beat.now, sent_at) > self._lease.seconds / 4:  # another server's clock: all look late by it
            self._lost_at = clock.monotonic()
        self._lease.renew(sent_at)
        self._round_trips.wake_up()
        self._on_success()
        if beat.stop is not None and beat.stop != self._stop and self.control is not None:
            self._stop = beat.stop
            self.control.request_stop(now=beat.stop == "now", leave_running=beat.stop == "leave")
        return True

    async def _look_around(self, connection: Connection) -> None:
        """Cancel what somebody asked to cancel; now and then, sweep, and rescue the jobs of silent pools."""
        if self.control is not None:
            for cancelled in await _CANCELLED.fetch(connection, (self.info.run,)):
                if self._round_trips.in_flight.is_running(cancelled.seq):
                    self.control.cancel_running(cancelled.id)
        now = clock.monotonic()
        if now - self._swept_at >= min(SWEEP_INTERVAL, self._lease.seconds):
            self._swept_at = now
            self._round_trips.sweep()
            # Else the others may be only as late as this pool is.
            if self._lost_at is None or now - self._lost_at > self._lease.seconds:
                await self._rescue(connection)


def _home_id(folder: Path) -> str:
    """A name for the directory of a pool's files that no other host's has."""
    file = folder / layout.HOST_ID
    home = file.read_text().strip() if file.exists() else ""
    if not home:  # also where a power cut has left nothing of it
        home = uuid.uuid4().hex
        file.write_text(home + "\n")
    return home
