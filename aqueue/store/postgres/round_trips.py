"""The round trips of a pool: claims for all free workers and all results that have come, in one transaction each.

While a round trip is in progress, results and free workers gather for the next one. What it stores is durable when it
is over. If the connection is lost, nobody knows whether the last one happened; so the next connection begins with a
sweep, which compares what this pool holds with what the table says it holds.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

from anyio import CancelScope

from aqueue.jobs.job import Job, State
from aqueue.store.postgres import parameters, rows, statements
from aqueue.store.postgres.connection import LOCK_TIMEOUT, TRANSACTION_CONFLICT, Connection, time_limit
from aqueue.store.postgres.database_clock import DatabaseClock
from aqueue.store.postgres.in_flight import InFlight, output_size
from aqueue.store.postgres.notifications import Ready, Scheduled, timestamp
from aqueue.store.postgres.prepared import PreparedConnection
from aqueue.store.postgres.promotion import Promotion
from aqueue.store.postgres.rows import ClaimedJob
from aqueue.store.postgres.scan_position import ScanPositions
from aqueue.store.postgres.statements import Claimed, Settled
from aqueue.store.postgres.sweep import Sweep

_TIME_LIMIT, _BYTES_PER_SECOND = 5.0, 1_000_000
"""Seconds after which a round trip is given up, and the connection with it; and one more for so much output."""


class RoundTrips:
    """Claims and results of the pool `run`, over one connection at a time."""

    def __init__(
        self,
        run: str,
        queues: frozenset[str],
        clock: DatabaseClock,
        *,
        on_change: Callable[[Job], None],
        on_late_result: Callable[[Job], None],
        lease_is_valid: Callable[[], bool],
    ) -> None:
        """`on_change` is called with every changed job, `on_late_result` with jobs whose attempt was taken from this
        pool; only while the lease is valid, jobs are claimed and handed to workers."""
        self.in_flight = InFlight()
        self._run_id = run
        self._positions = ScanPositions(queues)
        self._clock = clock
        self._promotion = Promotion(clock, self.wake_up)
        self._sweep = Sweep(run, self.in_flight, self._positions, self._promotion, self.wake_up)
        self._on_change = on_change
        self._on_late_result = on_late_result
        self._lease_is_valid = lease_is_valid
        self._free_workers: dict[int, asyncio.Future[Job]] = {}
        self._wake = asyncio.Event()
        self._finished = asyncio.Event()
        """Set, and replaced by another one, at the end of each round trip."""
        self._in_progress = self._disconnected = False

    # For workers

    async def claim(self, worker: int) -> Job:
        """Wait for a job that can start, for worker slot `worker`."""
        turn: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        self._free_workers[worker] = turn
        self.wake_up()
        try:
            return await turn
        except asyncio.CancelledError:
            self._free_workers.pop(worker, None)
            if turn.done() and not turn.cancelled():
                self.in_flight.return_later(turn.result().seq)
                self.wake_up()
            with CancelScope(shield=True):
                await self._wait_returned()
            raise

    def settle(self, ended: Job) -> None:
        """The attempt of a job has ended, with this result."""
        self.in_flight.settle(ended)
        if ended.state is State.FAILED:
            self._promotion.schedule(ended.due_at)
        self.wake_up()

    async def flush(self) -> None:
        """Return when all results are stored, however long the database cannot be reached."""
        while self.in_flight.returning or self.in_flight.unstored:
            await self._finished.wait()

    async def wait_stored(self, job_ids: Collection[str]) -> None:
        """Return when the results of these jobs are stored, or cannot be stored now."""
        while self.in_flight.has_results(job_ids) and not self._disconnected:
            await self._finished.wait()

    async def _wait_returned(self) -> None:
        """Return when what the current round trip claims, and nobody wants, was returned."""
        if self._in_progress:
            await self._finished.wait()
        while self.in_flight.returning and not self._disconnected:
            await self._finished.wait()

    # What makes the next round trip necessary

    def wake_up(self) -> None:
        """Look again whether one is necessary, as after the lease was renewed."""
        self._wake.set()

    def job_ready(self, notification: Ready) -> None:
        """Some host has announced jobs that can start."""
        if self._positions.job_ready(notification):
            self.wake_up()

    def job_scheduled(self, notification: Scheduled) -> None:
        """Some host has announced jobs that wait for their time."""
        self._promotion.schedule(timestamp(notification.due))

    def sweep(self) -> None:
        """Look at everything that no notification need have announced."""
        self._sweep.request()

    def connection_lost(self) -> None:
        """The database cannot be reached."""
        self._disconnected = True
        self._finish()

    def close(self) -> None:
        """Set no more timers."""
        self._sweep.close()
        self._promotion.close()

    # The loop

    async def run(self, connection: Connection) -> None:
        """Make round trips over `connection`, until that fails."""
        try:
            with PreparedConnection.open(connection) as prepared:
                with time_limit(connection, _TIME_LIMIT):
                    await prepared.execute(statements.PIN_PLANS)
                    await self._sweep.run(prepared)
                self._disconnected = False
                while True:
                    if self._sweep.requested or self._has_work():
                        results = self.in_flight.next_results()
                        seconds = _TIME_LIMIT + sum(map(output_size, results)) / _BYTES_PER_SECOND
                        with time_limit(connection, seconds):
                            if self._sweep.requested:
                                await self._sweep.run(prepared)
                            await self._try_round_trip(prepared, results)
                    else:
                        await self._wake.wait()
                    self._wake.clear()
        finally:
            self.connection_lost()

    def _has_work(self) -> bool:
        return self._may_claim() or self._promotion.requested or self.in_flight.has_work()

    def _may_claim(self) -> bool:
        return bool(self._free_workers) and not self._positions.exhausted and self._lease_is_valid()

    async def _try_round_trip(self, connection: PreparedConnection, results: Sequence[Job]) -> None:
        """Leave the work for the next round trip if this one conflicts with another transaction, such as a cancel."""
        promote = self._promotion.requested
        try:
            await self._round_trip(connection, results)
        except TRANSACTION_CONFLICT:
            self._undo(promote)
        except LOCK_TIMEOUT:
            self._undo(promote)
            await self._sweep.set_locked_aside(connection, [job.seq for job in results])

    def _undo(self, promote: bool) -> None:
        """A round trip did not happen."""
        self._promotion.requested = promote
        self._positions.exhausted = False
        self._finish()

    async def _round_trip(self, connection: PreparedConnection, results: Sequence[Job]) -> None:
        """Return what nobody wants, promote, store results, claim."""
        self._in_progress = True
        returning, promote = list(self.in_flight.returning), self._promotion.requested
        slots = list(self._free_workers) if self._may_claim() else []
        self._promotion.requested = False
        if slots:
            self._positions.exhausted = True  # unless this finds more, or more is announced meanwhile
        if returning:
            await self._return(connection, returning)
        if promote:
            await self._promotion.promote(connection)
        found: list[Settled | Claimed] = []
        claim: dict[str, Any] = {}
        if results or slots:
            settle = parameters.settle(results, self._clock.now()) if results else {}
            claim = parameters.claim(slots, self._positions) if slots else {}
            statement = statements.SETTLE_OR_CLAIM[bool(results), bool(slots)]
            found = await connection.execute(statement, {"run": self._run_id, **settle, **claim})
        await self._settled(connection, results, {row.seq for row in found if isinstance(row, Settled)})
        if slots:
            self._hand_out([row for row in found if isinstance(row, Claimed)], len(slots))
        self._finish()
        if claim and self._positions.exhausted:
            await self._sweep.again_if_passed_over(connection, claim)

    async def _return(self, connection: PreparedConnection, returning: Sequence[ClaimedJob]) -> None:
        found = await connection.execute(statements.RETURN, parameters.return_claimed(self._run_id, returning))
        returned = {row.seq for row in found}
        for claimed in returning:
            self.in_flight.returned(claimed)
            if claimed.job.seq in returned:
                self._on_change(claimed.before)

    async def _settled(self, connection: PreparedConnection, results: Sequence[Job], stored: set[int]) -> None:
        refused = [job.seq for job in results if job.seq not in stored]
        in_table: set[Any] = set()
        if refused:  # or the round trip that stored them was cut off before its response
            found = await connection.execute(statements.BY_SEQ, {"seqs": rows.array(refused)})
            in_table = {(row.seq, attempt) for row in found for attempt in row.before_claim().history}
        for job in results:
            self.in_flight.forget(job)
            if job.seq in stored or (job.seq, job.history[-1]) in in_table:
                self._on_change(job)
                if job.state is State.FAILED:
                    self._promotion.schedule(job.due_at)  # its timer may have fired before it was in the table
            else:
                self._on_late_result(job)

    def _hand_out(self, found: Sequence[Claimed], asked: int) -> None:
        """Give claimed jobs to the workers that wait for them; return what nobody wants any more."""
        if len(found) == asked:
            self._positions.exhausted = False
        for row in found:
            claimed = ClaimedJob.from_row(row)
            job = claimed.job
            self.in_flight.add(claimed)
            if job.seq == row.first:
                self._positions.claimed_first(job.queue, (-job.priority, job.due_at, job.seq))
            self._on_change(job)
            worker = job.history[-1].worker
            turn = self._free_workers.get(worker)
            if turn is None or turn.done() or not self._lease_is_valid():
                self.in_flight.return_later(job.seq)
            else:
                del self._free_workers[worker]
                turn.set_result(job)

    def _finish(self) -> None:
        self._in_progress = False
        self._finished.set()
        self._finished = asyncio.Event()
