"""Retention: finished jobs that are older than the setting `keep` are removed with their output.

Nothing polls: a timer is set for the moment at which the oldest of them has become too old.
"""

import asyncio
from datetime import timedelta

from anyio import move_on_after

from aqueue.attempts.files import AttemptFiles
from aqueue.errors import StoreError
from aqueue.jobs.job import utc_now
from aqueue.store.protocol import PoolStore

_SHORTEST_PAUSE = 60.0
"""Seconds between two removals, at the least."""


class Retention:
    """Removes the old jobs of one store."""

    def __init__(self, store: PoolStore, files: AttemptFiles, keep: float) -> None:
        """`keep` in seconds."""
        self._store = store
        self._files = files
        self._keep = keep
        self._keep_changed = asyncio.Event()

    def configure(self, keep: float) -> None:
        """Keep jobs for so many seconds from now on."""
        self._keep = keep
        self._keep_changed.set()

    async def run(self) -> None:
        """Remove jobs when they are old enough, until this is cancelled."""
        while True:
            self._keep_changed.clear()
            try:
                pause = await self._prune()
            except StoreError:  # the store has logged it, and old jobs can wait
                pause = _SHORTEST_PAUSE
            with move_on_after(pause):
                await self._keep_changed.wait()

    async def _prune(self) -> float:
        """Remove what is too old; return the seconds until there may be more."""
        now = utc_now()
        oldest = await self._store.prune(now - timedelta(seconds=self._keep), self._files.remove_output)
        return max(_SHORTEST_PAUSE, self._keep - (now - (oldest or now)).total_seconds())
