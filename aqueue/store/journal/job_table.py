"""The jobs of a directory store as memory holds them, by id and in the order in which they came, and their counts."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable

from aqueue.jobs.job import Job, State
from aqueue.store.journal.slicing import slices
from aqueue.store.protocol import Counts, Query


class JobTable:
    """Jobs without their output."""

    def __init__(self, jobs: dict[str, Job]) -> None:
        self.by_id = jobs
        self._counts: Counts = defaultdict(lambda: dict.fromkeys(State, 0))
        for job in jobs.values():
            self._counts[job.queue][job.state] += 1

    def __len__(self) -> int:
        return len(self.by_id)

    def replace(self, before: Job | None, after: Job | None) -> None:
        """Put `after` in the place of `before`: with None for one of them, a job comes or goes."""
        if before is not None:
            self._counts[before.queue][before.state] -= 1
        if after is not None:
            self._counts[after.queue][after.state] += 1
            self.by_id[after.id] = after
        elif before is not None:
            del self.by_id[before.id]

    async def find(self, query: Query) -> AsyncIterator[list[Job]]:
        """The jobs that match, some at a time."""
        values = reversed(self.by_id.values()) if query.newest else iter(self.by_id.values())
        left = len(self.by_id) if query.limit is None else min(query.limit, len(self.by_id))
        candidates = list(values if query.selective else itertools.islice(values, left))
        for part in slices(candidates):
            found = [job for job in part if query.matches(job)][:left]
            left -= len(found)
            if found:
                yield found
            if left <= 0:
                return
            await asyncio.sleep(0)

    def counts(self) -> Counts:
        """How many jobs there are, without queues that have none."""
        return {queue: dict(states) for queue, states in self._counts.items() if any(states.values())}

    def count(self, states: Iterable[State], queues: Collection[str] = ()) -> int:
        """How many jobs are in one of these states, in these queues (in all, if none is named)."""
        wanted = tuple(states)
        return sum(self._counts[queue][state] for queue in tuple(queues or self._counts) for state in wanted)
