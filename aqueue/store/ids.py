"""Ids and sequence numbers of jobs: none is used twice, also while jobs are being written and after they are gone."""

import asyncio
from collections.abc import Callable, Container, Iterable, Sequence
from types import TracebackType
from typing import Self

from aqueue.errors import DuplicateJob
from aqueue.jobs.spec import first_duplicate

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
REMOVAL_NOTE = " (it was removed; ids are never used again)"
"""What to add to a complaint about the id of a job that was removed."""


def made_id(seq: int) -> str:
    """The id of job number `seq` where nobody chose one: the number in base 32 behind a letter."""
    digits = ""
    while seq:
        seq, digit = divmod(seq, 32)
        digits = _DIGITS[digit] + digits
    return "j" + digits.rjust(4, "0")


def check_distinct(job_ids: Iterable[str]) -> None:
    """Raise `DuplicateJob` if an id occurs twice in a batch."""
    twice = first_duplicate(job_ids)
    if twice is not None:
        raise DuplicateJob(f"id {twice} occurs twice in this batch")


class Ids:
    """The ids that are or were in use in a store."""

    def __init__(self, existing: Container[str], removed: set[str], next_seq: int) -> None:
        """`existing` has the ids of the jobs that there are; jobs below `next_seq` may be gone."""
        self.removed = removed
        """Ids of jobs that are gone."""
        self.next_seq = next_seq
        self._existing = existing
        self._reserved: set[str] = set()
        self._released = asyncio.Event()

    def take_seq(self) -> int:
        """A sequence number that no job had."""
        seq, self.next_seq = self.next_seq, self.next_seq + 1
        return seq

    def new_id(self, seq: int) -> str:
        """An id for job number `seq`: another one if somebody chose the one that it would have."""
        job_id = made_id(seq)
        while self._taken(job_id):
            job_id += "x"
        return job_id

    def check_free(self, job_ids: Sequence[str], *, if_absent: bool = False) -> set[str]:
        """Raise `DuplicateJob` if new jobs cannot have these ids; return those that exist, where that is fine."""
        check_distinct(job_ids)
        taken = {job_id for job_id in job_ids if self._taken(job_id)}
        for job_id in job_ids:
            if job_id in taken and not (if_absent and job_id in self._existing):
                raise DuplicateJob(f"id {job_id} exists already" + self.removal_note(job_id))
        return taken

    def removal_note(self, job_id: str) -> str:
        """What to add to a complaint about an id: that its job was removed, if it was."""
        return REMOVAL_NOTE if job_id in self.removed else ""

    def reserve(self, job_ids: Iterable[str]) -> "Reservation":
        """Reserve ids for jobs that are being written, as long as a `with` block lasts."""
        return Reservation(self._reserved, self._release, job_ids)

    async def wait_unreserved(self, job_ids: Iterable[str]) -> None:
        """Return once none of these ids is reserved for a job that is being written."""
        while not self._reserved.isdisjoint(job_ids):
            await self._released.wait()

    def _release(self, job_ids: Iterable[str]) -> None:
        self._reserved.difference_update(job_ids)
        if not self._reserved:
            self._reserved.clear()  # lets its memory go, which a long batch has made large
        self._released.set()
        self._released = asyncio.Event()

    def _taken(self, job_id: str) -> bool:
        return job_id in self._existing or job_id in self._reserved or job_id in self.removed


class Reservation:
    """Ids that are reserved for jobs which are being written."""

    def __init__(self, reserved: set[str], release: Callable[[Iterable[str]], None], job_ids: Iterable[str]) -> None:
        self._job_ids = list(job_ids)
        self._reserved = reserved
        self._reserved.update(self._job_ids)
        self._release = release

    def add(self, job_id: str) -> None:
        self._job_ids.append(job_id)
        self._reserved.add(job_id)

    def hand_over(self) -> Callable[[], None]:
        """Keep the ids reserved beyond the block, until what is returned is called."""
        job_ids, self._job_ids = self._job_ids, []
        return lambda: self._release(job_ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._release(self._job_ids)
