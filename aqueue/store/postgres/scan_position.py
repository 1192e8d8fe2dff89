"""Where the ready jobs of each served queue begin.

A claim leaves an entry behind in the index that claims read, and while some long query of anybody's looks at an older
state of the database, no vacuum may remove it: without a bookmark each claim would pass all of them again. A bookmark
is a hint. It moves on only where nothing was passed over, back when a notice tells of a job before it, and to the
start with every safety sweep.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from aqueue.store.postgres import rows
from aqueue.store.postgres.notifications import Ready, moment

_START = (-(2**31), datetime(1, 1, 2, tzinfo=UTC), 0)
_ROUNDING = 0.001
"""Seconds by which a due time may have been rounded on its way."""
Place = tuple[int, datetime, int]
"""Rank, due time and number: the order of claims. Jobs of one batch differ in nothing but their numbers."""


class ScanPositions:
    """The bookmarks of the queues that a pool serves: all queues if it names none."""

    def __init__(self, queues: frozenset[str]) -> None:
        self._only = queues
        self._places: dict[str, Place] = dict.fromkeys(queues, _START)
        self._told: dict[str, Place] = {}
        """What notices told of since the last claim was begun, which may not have seen it."""
        self.exhausted = False
        """Whether the last claim found nothing more, and nobody has told of new jobs since."""

    def reset(self, queues: Iterable[str]) -> None:
        """Begin at the start of every queue; `queues` are all that there were: a notice may have told of one since."""
        self._places = dict.fromkeys(self._only or {*queues, *self._places}, _START)
        self.exhausted = False

    def ready(self, notice: Ready) -> bool:
        """A queue has a job that can start; False if it is not served."""
        if self._only and notice.queue not in self._only:
            return False
        place = (notice.rank, moment(notice.due - _ROUNDING), 0)
        self._places[notice.queue] = min(self._places.get(notice.queue, _START), place)
        self._told[notice.queue] = min(self._told.get(notice.queue, place), place)
        self.exhausted = False
        return True

    def claimed(self, queue: str, place: Place) -> None:
        """A claim has taken the first job of a queue, at `place`, and so none was passed over that others had locked
        in that moment and may leave."""
        self._places[queue] = min(place, self._told.get(queue, place))

    def parameters(self) -> dict[str, str]:
        """For the statement that claims and is sent now."""
        self._told.clear()
        places = self._places.values()
        return {
            "queues": rows.array(self._places),
            "ranks": rows.array(rank for rank, _, _ in places),
            "dues": rows.array(due for _, due, _ in places),
            "from": rows.array(seq for _, _, seq in places),
        }
