"""The traffic of a pool's workers with the database: claims and results, as many as there are in one round trip.

While one round trip is under way, results and free workers gather for the next. Each is one transaction: what it
brings is durable when it is over. If the connection is lost, nobody knows whether the last one happened; so the next
one begins by comparing what this pool holds with what the table says it holds.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from anyio import CancelScope

from aqueue.jobs.job import Job, State
from aqueue.store.postgres import rows, statements, traffic
from aqueue.store.postgres.connection import COLLISION, LOCKED, Connection, patience
from aqueue.store.postgres.database_clock import DatabaseClock
from aqueue.store.postgres.notifications import Later, Notification, Ready, moment
from aqueue.store.postgres.prepared import PreparedConnection
from aqueue.store.postgres.scan_position import ScanPositions
from aqueue.store.postgres.traffic import Held

_LATER = 0.001
"""Seconds by which a timer goes off after a due time, so that the database finds it past."""
_SOON, _LATE = 0.01, 1.0
"""Seconds until the next look, at the least and at the most, where another transaction has locked what is ready."""
_PATIENCE = 5.0
"""Seconds after which a round trip is given up, and the connection with it; and one more for each megabyte."""
_MEGABYTE = 1_000_000
_LONGEST_ROUND = 50 * _MEGABYTE
"""Bytes of output from which on results wait for the next round trip: the server takes no more than a gigabyte."""


class RoundTrips:
    """Claims and results of the pool `run`, over one connection at a time."""

    def __init__(
        self,
        run: str,
        queues: frozenset[str],
        clock: DatabaseClock,
        *,
        announce: Callable[[Job], None],
        late: Callable[[Job], None],
        safe: Callable[[], bool],
    ) -> None:
        """`announce` hears of every job that has changed, `late` of results of attempts that were taken away; `safe`
        says whether this pool's lease still runs, so that what it claimed may be started."""
        self.run = run
        self.bookmarks = ScanPositions(queues)
        self.held: dict[int, Held] = {}
        self.unsettled: dict[int, Job] = {}
        """Jobs whose attempt has ended, but that is not stored yet; by sequence number."""
        self._clock = clock
        self._subscribers = announce
        self._late = late
        self._safe = safe
        self._free: dict[int, asyncio.Future[Job]] = {}
        self._unwanted: list[Held] = []
        self._locked: set[int] = set()
        """Numbers of ended jobs whose rows somebody else's transaction has locked: the others do not wait for them."""
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._fewer = asyncio.Event()
        """Set when fewer attempts run than before."""
        self._under_way = False
        self._promote = self._sweep = False
        self._timer: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._pause = _SOON
        self._behind = 0.0
        self._broken = False

    # For workers

    async def claim(self, worker: int) -> Job:
        """Wait for a job that can start, for worker slot `worker`."""
        turn: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        self._free[worker] = turn
        self._wake.set()
        try:
            return await turn
        except asyncio.CancelledError:
            self._free.pop(worker, None)
            if turn.done() and not turn.cancelled():
                self._unwanted.append(self.held[turn.result().seq])
                self._wake.set()
            with CancelScope(shield=True):
                await self._taken_back_now()
            raise

    def runs(self, seq: int) -> bool:
        """Whether an attempt of that job was handed out here and has not ended."""
        return seq in self.held and seq not in self.unsettled

    def settle(self, ended: Job) -> None:
        """The attempt of a job is over, with this result."""
        self.unsettled[ended.seq] = ended
        if ended.state is State.FAILED:
            self.due(ended.due_at)
        self._wake.set()
        self._fewer.set()

    async def at_rest(self) -> None:
        """Return when all that has ended is stored, however long the database cannot be reached."""
        while self._unwanted or self.unsettled:
            await self._over.wait()

    async def stored(self, names: Collection[str]) -> None:
        """Return when the results of these jobs are stored, or cannot be stored now."""
        while any(job.id in names for job in self._storable()) and not self._broken:
            await self._over.wait()

    async def all_ended(self) -> None:
        """Return when no attempt runs here any more."""
        while self.held.keys() - self.unsettled.keys():
            self._fewer.clear()
            await self._fewer.wait()

    async def _taken_back_now(self) -> None:
        """Return when what the round trip brings that is under way, and nobody wants, was put back."""
        if self._under_way:
            await self._over.wait()
        while self._unwanted and not self._broken:
            await self._over.wait()

    # What there is to do

    def hear(self, notice: Notification) -> None:
        """Another host, or this one, says that there are jobs."""
        if isinstance(notice, Later):
            self.due(moment(notice.due))
        elif isinstance(notice, Ready) and self.bookmarks.ready(notice):
            self._wake.set()

    def due(self, moment: datetime) -> None:
        """A job becomes due at that time."""
        seconds = (moment - self._clock.now()).total_seconds() + _LATER
        self._timer = _at_the_latest(self._timer, seconds, self._ring)

    def lease_renewed(self) -> None:
        """What was claimed may be started again."""
        self._wake.set()

    def sweep(self) -> None:
        """Look at everything: no notice need have told of it."""
        self._sweep = True
        self._wake.set()

    def lost(self) -> None:
        """The database cannot be reached."""
        self._broken, self._under_way = True, False
        self._rested()

    def close(self) -> None:
        """Set no more timers."""
        self._look_no_more()
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        self._promote = True
        self._wake.set()

    # The traffic

    async def run_on(self, connection: Connection) -> None:
        """Do what there is to do over `connection`, until that fails."""
        try:
            with PreparedConnection.opened(connection) as line:
                with patience(connection, _PATIENCE):
                    await line.ask(statements.STEADY)
                    await self._look_at_everything(line)
                self._broken = False
                while True:
                    if self._sweep or self._anything():
                        results = self._results()
                        with patience(connection, _PATIENCE + sum(map(_size, results)) / _MEGABYTE):
                            if self._sweep:
                                await self._look_at_everything(line)
                            await self._round_or_again(line, results)
                    else:
                        await self._wake.wait()
                    self._wake.clear()
        finally:
            self.lost()

    def _anything(self) -> bool:
        return self._may_claim() or bool(self._storable() or self._unwanted or self._promote)

    def _may_claim(self) -> bool:
        return bool(self._free) and not self.bookmarks.exhausted and self._safe()

    async def _round_or_again(self, line: PreparedConnection, results: Sequence[Job]) -> None:
        """A round trip; what it would have done is left for the next one if somebody else's transaction collided with
        it, such as one that cancels a job which is just being claimed."""
        promote = self._promote
        try:
            await self._round(line, results)
        except COLLISION:
            self._undone(promote)
        except LOCKED:
            self._undone(promote)
            await self._set_aside_locked(line, [job.seq for job in results])

    def _undone(self, promote: bool) -> None:
        """A round trip did not happen."""
        self._promote = promote
        self.bookmarks.exhausted = self._under_way = False
        self._rested()

    async def _set_aside_locked(self, line: PreparedConnection, ended: Iterable[int]) -> None:
        """Let the results of those jobs of `ended` wait whose rows are locked, and look at them again later."""
        asked = {"seqs": rows.array(ended)}
        self._locked = {seq for (seq,) in await line.ask(statements.LOCKED_OUT, asked)}
        if self._locked:
            self._again = _at_the_latest(self._again, _LATE, self.sweep)

    async def _round(self, line: PreparedConnection, results: Sequence[Job]) -> None:
        """One round trip: store results, take back unwanted claims, let jobs become ready, claim."""
        self._under_way = True
        unwanted, promote = list(self._unwanted), self._promote
        slots = list(self._free) if self._may_claim() else []
        self._promote = False
        if slots:
            self.bookmarks.exhausted = True  # unless it shows that there is more, or somebody says so meanwhile
        answer: list[rows.Row] = []
        claim: dict[str, Any] = {}
        if unwanted:
            taken = await line.ask(statements.TAKE_BACK, traffic.returned(self.run, unwanted))
            self._taken_back(unwanted, {row[0] for row in taken})
        if promote:
            await self._let_become_ready(line)
        if results or slots:
            settlement = traffic.settlement(results, self._clock.now()) if results else {}
            claim = traffic.claim(slots, self.bookmarks) if slots else {}
            statement = traffic.STATEMENTS[bool(results), bool(slots)]
            answer = await line.ask(statement, {"run": self.run, **settlement, **claim})
        await self._settled(line, results, {row[0] for row in answer if row[1] is None})
        if slots:
            self._hand_out([row for row in answer if row[1] is not None], len(slots))
        self._under_way = False
        self._rested()
        if claim and self.bookmarks.exhausted:
            await self._look_for_passed_over(line, claim)

    async def _let_become_ready(self, line: PreparedConnection) -> None:
        """Make jobs ready whose time has come, and set the timer for the next. If that is past already, this came too
        early by the database's clock, or somebody has locked the job: try again soon, and less and less often."""
        promoted = await line.ask(statements.PROMOTE)
        ((upcoming,),) = await line.ask(statements.NEXT_DUE)
        now = self._clock.now()
        if upcoming is not None and upcoming <= now and not promoted:
            self._behind = min(max(2 * self._behind, _LATER), _LATE)
            upcoming = now + timedelta(seconds=self._behind)
        else:
            self._behind = 0.0
        if upcoming is not None:
            self.due(upcoming)

    async def _look_for_passed_over(self, line: PreparedConnection, claim: dict[str, Any]) -> None:
        """A claim passes over jobs that another one has locked in that moment, and perhaps leaves: look again soon."""
        ((passed_over,),) = await line.ask(statements.PASSED_OVER, claim)
        if passed_over:
            self._again = _at_the_latest(self._again, self._pause, self.sweep)
            self._pause = min(2 * self._pause, _LATE)
            return
        self._pause = _SOON
        if not self._locked:
            self._look_no_more()

    def _look_no_more(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _results(self) -> list[Job]:
        """What is to be stored next."""
        results: list[Job] = []
        size = 0
        for job in self._storable():
            results.append(job)
            size += _size(job)
            if size > _LONGEST_ROUND:
                break
        return results

    def _storable(self) -> list[Job]:
        return [job for job in self.unsettled.values() if job.seq not in self._locked]

    async def _settled(self, line: PreparedConnection, results: Sequence[Job], stored: set[int]) -> None:
        late = [job for job in results if job.seq not in stored]
        if late:  # or the round trip that stored them was cut off before its answer
            found = await line.ask(statements.NUMBERED, {"seqs": rows.array(job.seq for job in late)})
            known = {attempt.token: attempt for row in found for attempt in rows.record_of(row).history}
        for job in results:
            if self.unsettled.get(job.seq) is job:
                del self.unsettled[job.seq]
            self.held.pop(job.seq, None)
            attempt = job.history[-1]
            if job.seq in stored or known.get(attempt.token) == attempt:
                self._subscribers(job)
                if job.state is State.FAILED:
                    self.due(job.due_at)  # the timer may have gone off before this was in the table
            else:
                self._late(job)

    def _taken_back(self, unwanted: Sequence[Held], taken: set[int]) -> None:
        for held in unwanted:
            self._unwanted.remove(held)
            self.held.pop(held.job.seq, None)
            if held.job.seq in taken:
                self._subscribers(held.before)

    def _hand_out(self, found: Sequence[rows.Row], asked: int) -> None:
        """Give claimed jobs to the workers that wait for them; what nobody wants any more goes back."""
        if len(found) == asked:
            self.bookmarks.exhausted = False
        for row in found:
            held = Held.of(row)
            job = held.job
            self.held[job.seq] = held
            if job.seq == row[-1]:  # it was the first of its queue
                self.bookmarks.claimed(job.queue, (-job.priority, job.due_at, job.seq))
            self._subscribers(job)
            worker = job.history[-1].worker
            turn = self._free.get(worker)
            if turn is None or turn.done() or not self._safe():
                self._unwanted.append(held)
            else:
                del self._free[worker]
                turn.set_result(job)

    async def _look_at_everything(self, line: PreparedConnection) -> None:
        """Whether what the table says this pool holds is what it holds: a connection may have been lost in the moment
        of a claim. And what there is that no notice told of."""
        self._sweep = False
        self._look_no_more()
        found = await line.ask(statements.CLAIMED, {"run": self.run})
        known = {*self.held, *(held.job.seq for held in self._unwanted)}
        self._unwanted += [Held.of(row) for row in found if row[0] not in known]
        names = await line.ask("SELECT name FROM aqueue.queue")
        self.bookmarks.reset(name for (name,) in names)
        self._promote = True
        if self._locked:
            await self._set_aside_locked(line, self._locked)

    def _rested(self) -> None:
        self._fewer.set()
        self._over.set()
        self._over = asyncio.Event()


def _at_the_latest(timer: asyncio.TimerHandle | None, seconds: float, ring: Callable[[], None]) -> asyncio.TimerHandle:
    """The one timer that is to go off: `timer`, or one in so many seconds if that is sooner."""
    loop = asyncio.get_running_loop()
    at = loop.time() + seconds
    if timer is not None:
        if timer.when() <= at:
            return timer
        timer.cancel()
    return loop.call_at(at, ring)


def _size(job: Job) -> int:
    return len(job.stdout or "") + len(job.stderr or "")
