"""The database's time in this process: by it all hosts agree on what is due, whatever their own clocks show."""

import time
from datetime import UTC, datetime, timedelta

from aqueue.system.clock import monotonic

_SLOW = 1.0
"""Seconds after which a response says little about when the clock was read."""


class DatabaseClock:
    """The database's clock, carried on by this host's monotonic one."""

    def __init__(self) -> None:
        self._offset = time.time() - monotonic()
        self._known = False

    def set(self, database_time: datetime, asked_at: float) -> float:
        """Set the clock to what the database, asked at `asked_at` by the monotonic clock, has just answered.

        It read its clock halfway in between, as far as anybody knows; a slow response that could be explained by its
        delay is ignored.

        Return by how many seconds the database's clock has moved against this host's monotonic one since the last call.
        """
        now = monotonic()
        took = now - asked_at
        offset = database_time.timestamp() - (asked_at + now) / 2
        moved = offset - self._offset if self._known else 0.0
        if self._known and took > _SLOW and abs(moved) <= took / 2:
            return 0.0
        self._offset = offset
        self._known = True
        return moved

    def now(self) -> datetime:
        """The database's time."""
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=monotonic() + self._offset)
