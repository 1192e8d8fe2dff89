"""Promotion: jobs that wait for their time, or for a retry, become ready when it has come. A timer, no polling."""

from collections.abc import Callable
from datetime import datetime, timedelta

from aqueue.store.postgres import statements
from aqueue.store.postgres.database_clock import DatabaseClock
from aqueue.store.postgres.prepared import PreparedConnection
from aqueue.store.postgres.timers import Backoff, EarliestTimer

_AFTER_DUE = 0.001
"""Seconds after a due time at which the timer fires, so that the time has come for the database too."""
_FIRST_RETRY, _LONGEST_RETRY = 0.001, 1.0
"""Seconds until a promotion that found nothing is tried again."""


class Promotion:
    """Promotes jobs of all queues, for all pools, when the first of them becomes due."""

    def __init__(self, clock: DatabaseClock, on_due: Callable[[], None]) -> None:
        """`on_due` is called when there is something to promote."""
        self.requested = False
        self._clock = clock
        self._on_due = on_due
        self._timer = EarliestTimer(self._request)
        self._retry = Backoff(_FIRST_RETRY, _LONGEST_RETRY)

    def schedule(self, due: datetime) -> None:
        """A job becomes due at that time."""
        self._timer.set((due - self._clock.now()).total_seconds() + _AFTER_DUE)

    def close(self) -> None:
        """Set no more timers."""
        self._timer.cancel()

    async def promote(self, connection: PreparedConnection) -> None:
        """Make jobs ready whose time has come, and set the timer for the next.

        If that is past already, this was too early by the database's clock, or another transaction has locked the job:
        try again soon, and less and less often.
        """
        promoted = await connection.execute(statements.PROMOTE)
        (following,) = await connection.execute(statements.NEXT_DUE)
        now = self._clock.now()
        if following.due is None:
            self._retry.reset()
        elif following.due <= now and not promoted:
            self.schedule(now + timedelta(seconds=self._retry.next()))
        else:
            self._retry.reset()
            self.schedule(following.due)

    def _request(self) -> None:
        self.requested = True
        self._on_due()
