"""Where the ready jobs of each served queue begin, so that a claim need not scan from the start.

A claim leaves a dead entry behind in the index that claims scan, and while a long query of anybody's holds an old
snapshot, vacuum cannot remove it: without a scan position each claim would pass all of them again. A position is a
hint. It moves forward only where nothing was passed over, back when a notification announces an earlier job, and to
the start with every sweep.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from aqueue.store.postgres import rows
from aqueue.store.postgres.notifications import Ready, timestamp

_START = (-(2**31), datetime(1, 1, 2, tzinfo=UTC), 0)
_ROUNDING = 0.001
"""Seconds by which a due time in a notification may have been rounded."""
Position = tuple[int, datetime, int]
"""Rank, due time and number: the order of claims. Jobs of one batch differ in nothing but their numbers."""


class ScanPositions:
    """The positions of the queues that a pool serves: all queues if it names none."""

    def __init__(self, queues: frozenset[str]) -> None:
        self._only = queues
        self._positions: dict[str, Position] = dict.fromkeys(queues, _START)
        self._announced: dict[str, Position] = {}
        """What was announced since the last claim was sent, which may not have seen it."""
        self.exhausted = False
        """Whether the last claim found nothing more, and no new jobs were announced since."""

    def reset(self, queues: Iterable[str]) -> None:
        """Begin at the start of every queue; `queues` are all in the table: others may have been announced since."""
        self._positions = dict.fromkeys(self._only or {*queues, *self._positions}, _START)
        self.exhausted = False

    def job_ready(self, notification: Ready) -> bool:
        """A queue has a job that can start; return False if the queue is not served."""
        if self._only and notification.queue not in self._only:
            return False
        queue = notification.queue
        position = (notification.rank, timestamp(notification.due - _ROUNDING), 0)
        self._positions[queue] = min(self._positions.get(queue, _START), position)
        self._announced[queue] = min(self._announced.get(queue, position), position)
        self.exhausted = False
        return True

    def claimed_first(self, queue: str, position: Position) -> None:
        """A claim has taken the first job of a queue, at `position`: it passed over none that another transaction had
        locked and may leave."""
        self._positions[queue] = min(position, self._announced.get(queue, position))

    def parameters(self) -> dict[str, str]:
        """For the claim that is sent now."""
        self._announced.clear()
        positions = self._positions.values()
        return {
            "queues": rows.array(self._positions),
            "ranks": rows.array(rank for rank, _, _ in positions),
            "dues": rows.array(due for _, due, _ in positions),
            "from": rows.array(seq for _, _, seq in positions),
        }
