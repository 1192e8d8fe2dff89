"""The sweep: a look at everything that no notification need have announced.

There is one when a connection is new, every now and then, and soon after other transactions were in the way.
"""

from collections.abc import Callable, Iterable, Mapping

from aqueue.store.postgres import rows, statements
from aqueue.store.postgres.in_flight import InFlight
from aqueue.store.postgres.prepared import PreparedConnection
from aqueue.store.postgres.promotion import Promotion
from aqueue.store.postgres.rows import ClaimedJob
from aqueue.store.postgres.scan_position import ScanPositions
from aqueue.store.postgres.timers import Backoff, EarliestTimer

_FIRST_DELAY, _LONGEST_DELAY = 0.01, 1.0
"""Seconds until the next sweep where another transaction has locked what is ready; the longest where it has locked the
row of a result."""


class Sweep:
    """Compares what the pool `run` holds with the tables, and lets the next claim begin at the start of each queue."""

    def __init__(
        self,
        run: str,
        in_flight: InFlight,
        positions: ScanPositions,
        promotion: Promotion,
        on_request: Callable[[], None],
    ) -> None:
        """`on_request` is called when there is to be a sweep."""
        self.requested = False
        self._run_id = run
        self._in_flight = in_flight
        self._positions = positions
        self._promotion = promotion
        self._on_request = on_request
        self._timer = EarliestTimer(self.request)
        self._delay = Backoff(_FIRST_DELAY, _LONGEST_DELAY)

    def request(self) -> None:
        """Let there be a sweep with the next round trip."""
        self.requested = True
        self._on_request()

    def close(self) -> None:
        """Set no more timers."""
        self._timer.cancel()

    async def run(self, connection: PreparedConnection) -> None:
        """Sweep. What the table says this pool holds, but is unknown here, is returned: a connection may have been
        lost in the middle of a claim."""
        self.requested = False
        self._timer.cancel()
        held = await connection.execute(statements.HELD, {"run": self._run_id})
        self._in_flight.return_unknown(ClaimedJob.from_row(row) for row in held)
        self._positions.reset(await connection.execute(statements.QUEUES))
        self._promotion.requested = True
        if self._in_flight.locked:
            await self.set_locked_aside(connection, self._in_flight.locked)

    async def set_locked_aside(self, connection: PreparedConnection, ended: Iterable[int]) -> None:
        """Let those of these results wait whose rows are locked, and sweep again later."""
        self._in_flight.locked = set(await connection.execute(statements.LOCKED, {"seqs": rows.array(ended)}))
        if self._in_flight.locked:
            self._timer.set(_LONGEST_DELAY)

    async def again_if_passed_over(self, connection: PreparedConnection, claim: Mapping[str, object]) -> None:
        """Sweep again soon if a claim with these parameters passed over jobs: another one that has locked them just
        then perhaps leaves them."""
        (passed_over,) = await connection.execute(statements.PASSED_OVER, claim)
        if passed_over:
            self._timer.set(self._delay.next())
            return
        self._delay.reset()
        if not self._in_flight.locked:
            self._timer.cancel()
