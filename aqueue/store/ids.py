"""Ids and sequence numbers of jobs: none is used twice, also while jobs are being written and after they are gone."""

import asyncio
from collections.abc import Callable, Container, Iterable
from types import TracebackType
from typing import Self

from aqueue.errors import DuplicateJob
from aqueue.jobs.spec import first_duplicate

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def made_id(seq: int) -> str:
    """The id of job number `seq` where nobody gave it one: the number in base 32 behind a letter."""
    name = ""
    while seq:
        seq, digit = divmod(seq, 32)
        name = _DIGITS[digit] + name
    return "j" + name.rjust(4, "0")


class Ids:
    """What a store knows of the ids that are or were in use."""

    def __init__(self, existing: Container[str], removed: set[str], next_seq: int) -> None:
        """`existing` has the ids of the jobs that there are; jobs below `next_seq` may be gone."""
        self.removed = removed
        """Ids of jobs that are gone."""
        self.next_seq = next_seq
        self._existing = existing
        self._reserved: set[str] = set()
        self._freed = asyncio.Event()

    def take_seq(self) -> int:
        """A sequence number that no job had."""
        seq, self.next_seq = self.next_seq, self.next_seq + 1
        return seq

    def new_id(self, seq: int) -> str:
        """An id for job number `seq`, which gives way to what somebody chose."""
        name = made_id(seq)
        while self._taken(name):
            name += "x"
        return name

    def check_free(self, names: list[str], *, if_absent: bool = False) -> set[str]:
        """Raise `DuplicateJob` if new jobs cannot have these ids; return those that exist, where that is fine."""
        twice = first_duplicate(names)
        if twice is not None:
            raise DuplicateJob(f"id {twice} occurs twice in this batch")
        taken = {name for name in names if self._taken(name)}
        refused = [name for name in names if name in taken and not (if_absent and name in self._existing)]
        if refused:
            raise DuplicateJob(f"id {refused[0]} exists already" + self.fate(refused[0]))
        return taken

    def fate(self, name: str) -> str:
        """What to add to a complaint about an id: whether its job was removed."""
        return " (it was removed; ids are never used again)" if name in self.removed else ""

    def reserve(self, names: Iterable[str]) -> "Reservation":
        """Keep ids for jobs that are being written, as long as a `with` block lasts."""
        return Reservation(names, self._reserved, self._free)

    async def unreserved(self, names: Iterable[str]) -> None:
        """Return once none of these ids is kept for a job that is being written."""
        while not self._reserved.isdisjoint(names):
            await self._freed.wait()

    def _free(self, names: set[str]) -> None:
        self._reserved -= names
        self._freed.set()
        self._freed = asyncio.Event()

    def _taken(self, name: str) -> bool:
        return name in self._existing or name in self._reserved or name in self.removed


class Reservation:
    """Ids that are kept for jobs which are being written."""

    def __init__(self, names: Iterable[str], reserved: set[str], free: Callable[[set[str]], None]) -> None:
        self._names = set(names)
        self._reserved = reserved
        self._reserved |= self._names
        self._free = free

    def add(self, name: str) -> None:
        self._names.add(name)
        self._reserved.add(name)

    def hand_over(self) -> Callable[[], None]:
        """Keep the ids beyond the block, until what is returned is called."""
        names, self._names = self._names, set()
        return lambda: self._free(names)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._free(self._names)
