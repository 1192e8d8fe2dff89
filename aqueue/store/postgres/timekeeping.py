"""The database's time in this process: by it all hosts agree on what is due, whatever their own clocks say."""

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """The database's clock, carried on by this host's steady one."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def set(self, database: datetime) -> None:
        """The database has just said that it is `database`."""
        self._offset = database.timestamp() - time.monotonic()

    def now(self) -> datetime:
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=time.monotonic() + self._offset)
