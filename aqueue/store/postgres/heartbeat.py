"""This pool among the pools of all hosts: its row, its heartbeat, and what it is told through the tables.

A pool that has not written a heartbeat for the length of its lease has lost its jobs to whoever rescues them
(`rescue`), so by then its commands must have ended: they are when half of the lease has gone by (`fence`).
Leases are judged by the database's clock, and kept by this host's monotonic one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol

import msgspec

from aqueue.store.pool_info import PoolInfo
from aqueue.store.postgres import notifications, rows
from aqueue.store.postgres.connection import Connection, patience
from aqueue.store.postgres.database_clock import DatabaseClock
from aqueue.store.postgres.lease import Lease
from aqueue.store.postgres.round_trips import RoundTrips
from aqueue.store.postgres.traffic import Held
from aqueue.store.protocol import PoolControl
from aqueue.system import clock

_log = logging.getLogger("aqueue.store.postgres")
SWEEP = 30.0
"""Seconds between two looks at everything that a notice should have told of."""
_BEATS = 4
"""Heartbeats in a lease."""

_JOIN = """
    INSERT INTO aqueue.pool (run, host, home, info, beat, lease)
    VALUES (%(run)s, %(host)s, %(home)s, %(info)s, clock_timestamp(), %(lease)s) RETURNING beat"""
_REPLACE = "DELETE FROM aqueue.pool WHERE home = %(home)s AND host = %(host)s AND run <> %(run)s RETURNING run"
_TAKE_OVER = f"""
    UPDATE aqueue.job_active SET pool = %(run)s WHERE state = 'processing' AND pool = ANY(%(before)s)
    RETURNING {rows.PLAIN}"""
_BEAT = """
    UPDATE aqueue.pool SET beat = clock_timestamp(), info = %(info)s, lease = %(lease)s WHERE run = %(run)s
    RETURNING clock_timestamp(), stop"""
_CANCELLED = "SELECT id, seq FROM aqueue.job_active WHERE state = 'processing' AND pool = %s AND cancel"


class Member(Protocol):
    """The pool whose row it is."""

    exchange: RoundTrips
    clock: DatabaseClock
    fence: Lease
    orders: PoolControl | None

    @property
    def info(self) -> PoolInfo: ...

    def well(self) -> None: ...


class Heartbeat:
    """The row of one pool, kept alive."""

    def __init__(self, pool: Member, home: str, lease: float, rescue: Callable[[Connection], Awaitable[None]]) -> None:
        """`home` names the directory of the pool's files among those of all hosts; `lease` in seconds; `rescue` looks
        after other pools."""
        self._pool = pool
        self._home = home
        self._lease = lease
        self._rescue = rescue
        self._told = asyncio.Event()
        self._swept = float("-inf")
        self._lost_at: float | None = None
        self._stop: str | None = None
        self._leaving = False
        self._entering = asyncio.Lock()

    async def join(self, connection: Connection) -> None:
        """Enter the row, and take over what an earlier pool of this directory, which is gone, has left."""
        row = self._row()
        async with connection.transaction():
            before = await (await connection.execute(_REPLACE, row)).fetchall()
            asked = clock.monotonic()
            joined = await (await connection.execute(_JOIN, row)).fetchone()
            assert joined is not None
            self._pool.clock.set(joined[0], asked)
            left = await connection.execute(_TAKE_OVER, {**row, "before": [run for (run,) in before]})
            for found in await left.fetchall():
                held = Held.of(found)
                self._pool.exchange.held[held.job.seq] = held
        self._pool.fence.renew(asked)

    async def leave(self, connection: Connection) -> None:
        """Take out the row, unless there is something left for the next pool of this directory to take over. From now
        on no heartbeat that finds it gone enters it again."""
        self._leaving = True
        if not self._pool.exchange.held:
            async with self._entering, connection.transaction():
                await connection.execute("DELETE FROM aqueue.pool WHERE run = %s", (self._pool.info.run,))
                await notifications.send(connection, [notifications.Left()])

    async def run_on(self, connection: Connection) -> None:
        """Beat over `connection`, and look after what there is to look after, until that fails."""
        try:
            while True:
                self._told.clear()
                with patience(connection, self._lease / 6):
                    member = await self._beat(connection)
                if not member:
                    await self._start_over(connection)
                    continue
                with patience(connection, self._lease / 6):
                    await self._look_after(connection)
                try:
                    async with asyncio.timeout(self._lease / _BEATS):
                        await self._told.wait()
                except TimeoutError:
                    continue
        finally:
            self._lost_at = clock.monotonic()

    def told(self) -> None:
        """There is something for this pool in the tables."""
        self._told.set()

    def _row(self) -> dict[str, Any]:
        info = self._pool.info
        return {
            "run": info.run,
            "host": info.host,
            "home": self._home,
            "info": msgspec.json.encode(info).decode(),
            "lease": timedelta(seconds=self._lease),
        }

    async def _start_over(self, connection: Connection) -> None:
        """Come back as a pool without jobs: those that it had are another's now, and may be claimed by this one again
        only when their commands have ended here."""
        _log.warning("this pool was silent for longer than its lease, or its tables were emptied: it starts over")
        self._pool.fence.end_commands("interrupted: the lease of its pool ran out")
        await self._pool.exchange.all_ended()
        async with self._entering:
            if not self._leaving:
                with patience(connection, self._lease / 6):
                    await connection.execute(_JOIN, self._row())

    async def _beat(self, connection: Connection) -> bool:
        """Renew the lease; False if another pool has ended it."""
        asked = clock.monotonic()
        beat = await (await connection.execute(_BEAT, self._row())).fetchone()
        if beat is None:
            return self._leaving
        if self._pool.clock.set(beat[0], asked) > self._lease / 4:  # another server's clock: all look late by it
            self._lost_at = clock.monotonic()
        self._pool.fence.renew(asked)
        self._pool.exchange.lease_renewed()
        self._pool.well()
        if beat[1] is not None and beat[1] != self._stop and self._pool.orders is not None:
            self._stop = beat[1]
            self._pool.orders.request_stop(now=beat[1] == "now", leave_running=beat[1] == "leave")
        return True

    async def _look_after(self, connection: Connection) -> None:
        """What somebody asked of this pool; now and then, what no notice told of, and pools that have fallen silent."""
        if self._pool.orders is not None:
            for name, seq in await (await connection.execute(_CANCELLED, (self._pool.info.run,))).fetchall():
                if self._pool.exchange.runs(seq):
                    self._pool.orders.cancel_running(name)
        now = clock.monotonic()
        if now - self._swept >= min(SWEEP, self._lease):
            self._swept = now
            self._pool.exchange.sweep()
            if self._lost_at is None or now - self._lost_at > self._lease:  # else others may only be as late as we are
                await self._rescue(connection)
