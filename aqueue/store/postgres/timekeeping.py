"""The database's time in this process: by it all hosts agree on what is due, whatever their own clocks say."""

import time
from datetime import UTC, datetime, timedelta

from aqueue.clock import steady


class Clock:
    """The database's clock, carried on by this host's steady one."""

    def __init__(self) -> None:
        self._offset = time.time() - steady()

    def set(self, database: datetime, asked: float) -> None:
        """The database was asked for its time at `asked`, by `clock.steady`, and has just said that it is `database`.
        That was halfway in between, as far as anybody knows."""
        self._offset = database.timestamp() - (asked + steady()) / 2

    def now(self) -> datetime:
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=steady() + self._offset)
