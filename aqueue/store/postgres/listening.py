"""Hears the notices of other hosts, and passes them on."""

from collections.abc import Callable

import msgspec

from aqueue.store.postgres import notices
from aqueue.store.postgres.links import Connection
from aqueue.store.postgres.notices import Notice


class Listening:
    """One connection that listens."""

    def __init__(self, hear: Callable[[Notice], None], again: Callable[[], None]) -> None:
        """`again` is called whenever listening begins: before that, any notice may have been missed."""
        self._hear = hear
        self._again = again

    async def run_on(self, connection: Connection) -> None:
        """Listen over `connection`, until it fails."""
        await connection.execute(f"LISTEN {notices.CHANNEL}")
        self._again()
        async for notice in connection.notifies():
            try:
                heard = notices.decode(notice.payload)
            except msgspec.MsgspecError:
                continue  # of a newer version, or nobody's: the tables are the truth
            self._hear(heard)
