"""Hears the notices of other hosts, and passes them on."""

from collections.abc import Callable

import msgspec

from aqueue.store.postgres import notices
from aqueue.store.postgres.links import Connection, patience
from aqueue.store.postgres.notices import Notice

_SILENCE, _PATIENCE = 30.0, 5.0
"""Seconds without a notice after which the connection is tried, and in which it must answer."""


class Listening:
    """One connection that listens."""

    def __init__(self, hear: Callable[[Notice], None], again: Callable[[], None]) -> None:
        """`again` is called whenever listening begins: before that, any notice may have been missed."""
        self._hear = hear
        self._again = again

    async def run_on(self, connection: Connection) -> None:
        """Listen over `connection`, until it fails."""
        with patience(connection, _PATIENCE):
            await connection.execute(f"LISTEN {notices.CHANNEL}")
        self._again()
        while True:
            async for notice in connection.notifies(timeout=_SILENCE):
                try:
                    heard = notices.decode(notice.payload)
                except msgspec.MsgspecError:
                    continue  # of a newer version, or nobody's: the tables are the truth
                self._hear(heard)
            with patience(connection, _PATIENCE):
                await connection.execute("SELECT")
