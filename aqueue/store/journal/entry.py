"""Records that are written together, and who has to know what became of them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

from aqueue.errors import StoreError
from aqueue.store.journal.records import Record, encode_lines
from aqueue.store.journal.slicing import slices

OnDurable = Callable[[int], Awaitable[None]]
"""Is called with the offset at which the lines begin."""
_LONG = 5000
"""Of more records than this no lines are held in memory: they are made a few at a time, while they are written."""


class Entry:
    """Records that belong together."""

    def __init__(
        self,
        records: Sequence[Record],
        on_durable: OnDurable | None = None,
        *,
        synced: bool = True,
        when_decided: Callable[[], None] | None = None,
    ) -> None:
        self.lines = len(records)
        self.long = len(records) > _LONG
        """Whether its lines are made while they are written."""
        self.data = b"" if self.long else encode_lines(records)
        """Its lines, if it is not long."""
        self._records = records
        self.on_durable = on_durable
        self.synced = synced
        """Whether somebody waits for its fsync; else it is enough for now that it survives this process."""
        self.offset = 0
        self.done: asyncio.Future[None] | None = None
        """Whoever waits for it waits for this; None for a fact."""
        self._when_decided = when_decided

    def parts(self) -> Iterator[bytes]:
        """Its lines, some at a time."""
        return map(encode_lines, slices(self._records))

    @property
    def is_fact(self) -> bool:
        """Whether it must become durable, whatever happens: also after it was reported to have survived so far."""
        return self.done is None or (not self.synced and self.done.done())

    def succeed(self) -> None:
        """Nobody has to wait for it any longer."""
        if self.done is not None and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: StoreError) -> None:
        """It is not stored."""
        if self.done is not None and not self.done.done():
            self.done.set_exception(error)

    def decide(self) -> None:
        """It is known now whether it is stored."""
        if self._when_decided is not None:
            self._when_decided()
