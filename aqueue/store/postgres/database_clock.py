"""The database's time in this process: by it all hosts agree on what is due, whatever their own clocks say."""

import time
from datetime import UTC, datetime, timedelta

from aqueue.system.clock import monotonic

_SLOW = 1.0
"""Seconds after which an answer says little about when the clock was read."""


class DatabaseClock:
    """The database's clock, carried on by this host's monotonic one."""

    def __init__(self) -> None:
        self._offset = time.time() - monotonic()
        self._known = False

    def set(self, database: datetime, asked: float) -> float:
        """The database was asked for its time at `asked`, by `clock.monotonic`, and has just said that it is `database`.
        That was halfway in between, as far as anybody knows; an answer that was long in coming is not taken where it
        says nothing new.

        Return by how many seconds its clock has moved against this host's monotonic one since it was last set.
        """
        now = monotonic()
        took = now - asked
        offset = database.timestamp() - (asked + now) / 2
        moved = offset - self._offset if self._known else 0.0
        if self._known and took > _SLOW and abs(moved) <= took / 2:
            return 0.0
        self._offset = offset
        self._known = True
        return moved

    def now(self) -> datetime:
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=monotonic() + self._offset)
