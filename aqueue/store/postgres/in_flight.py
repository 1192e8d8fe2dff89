"""The jobs that a pool has claimed: until their results are stored, or they are returned to their queues."""

import asyncio
from collections.abc import Collection, Iterable

from aqueue.jobs.job import Job
from aqueue.store.postgres.rows import ClaimedJob

_MAX_BYTES = 50_000_000
"""Bytes of output from which on results wait for the next round trip: the server accepts at most a gigabyte."""


class InFlight:
    """The jobs in the hands of one pool."""

    def __init__(self) -> None:
        self.returning: list[ClaimedJob] = []
        """Claimed jobs that no worker wants any more, to be returned."""
        self.locked: set[int] = set()
        """Numbers of jobs whose result has to wait, because another transaction has locked their row."""
        self._claimed: dict[int, ClaimedJob] = {}
        self._results: dict[int, Job] = {}
        """Jobs whose attempt has ended, but whose result is not stored; by number."""
        self._one_ended = asyncio.Event()

    def __len__(self) -> int:
        return len(self._claimed)

    def __contains__(self, seq: int) -> bool:
        return seq in self._claimed

    def jobs(self) -> list[Job]:
        """All of them, as they were claimed."""
        return [claimed.job for claimed in self._claimed.values()]

    def add(self, claimed: ClaimedJob) -> None:
        """A job was claimed, or taken over from an earlier pool."""
        self._claimed[claimed.job.seq] = claimed

    def is_running(self, seq: int) -> bool:
        """Whether an attempt of that job has begun here and has not ended."""
        return seq in self._claimed and seq not in self._results

    async def wait_ended(self) -> None:
        """Return when no attempt runs here any more."""
        while self._claimed.keys() - self._results.keys():
            self._one_ended.clear()
            await self._one_ended.wait()

    def has_work(self) -> bool:
        """Whether there is something for a round trip to store or to return."""
        return bool(self.returning) or self.has_results()

    # Results

    @property
    def unstored(self) -> int:
        """How many results are not stored."""
        return len(self._results)

    def settle(self, ended: Job) -> None:
        """The attempt of a job has ended, with this result."""
        self._results[ended.seq] = ended
        self._one_ended.set()

    def has_results(self, job_ids: Collection[str] | None = None) -> bool:
        """Whether there are results that can be stored now; with `job_ids`, of these jobs."""
        return any(
            job.seq not in self.locked and (job_ids is None or job.id in job_ids) for job in self._results.values()
        )

    def next_results(self) -> list[Job]:
        """The results to store in the next round trip."""
        results: list[Job] = []
        size = 0
        for job in self._results.values():
            if job.seq not in self.locked:
                results.append(job)
                size += output_size(job)
                if size > _MAX_BYTES:
                    break
        return results

    def forget(self, ended: Job) -> None:
        """A result is stored, or was refused."""
        if self._results.get(ended.seq) is ended:
            del self._results[ended.seq]
        self._claimed.pop(ended.seq, None)
        self._one_ended.set()

    # Returns

    def return_later(self, seq: int) -> None:
        """No worker wants a job that was claimed."""
        self.returning.append(self._claimed[seq])

    def return_unknown(self, held: Iterable[ClaimedJob]) -> None:
        """Return what this pool holds by the table, but does not know of: its connection was lost during the claim."""
        known = {*self._claimed, *(claimed.job.seq for claimed in self.returning)}
        self.returning += [claimed for claimed in held if claimed.job.seq not in known]

    def returned(self, claimed: ClaimedJob) -> None:
        """A claimed job is in its queue again, or was not this pool's any more."""
        self.returning.remove(claimed)
        self._claimed.pop(claimed.job.seq, None)
        self._one_ended.set()


def output_size(job: Job) -> int:
    """How much text a result carries."""
    return len(job.stdout or "") + len(job.stderr or "")
