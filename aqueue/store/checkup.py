"""Checking a store that nobody holds, and mending it: what is readable stays, the rest is put aside.

Nothing is thrown away but what tells nothing: the registry and socket of a pool that is gone, and a compaction
that was not finished. Lines that cannot be read and output of no job are moved into a directory of their own.
"""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from aqueue.errors import UNREADABLE, DamagedStore
from aqueue.platform import fdatasync, sync_directory
from aqueue.store.recovery import FORMAT, Header, Removed, Together, decode_job, encode, is_blank

_header = msgspec.json.Decoder(Header).decode
_removed = msgspec.json.Decoder(Removed).decode
_together = msgspec.json.Decoder(Together).decode


class Checkup:
    """What is found in the store at `path`; the caller holds its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = path / "jobs.jsonl"
        self.problems: list[str] = []
        self.next_seq = 1
        self.seqs: set[int] = set()
        """The numbers of the jobs, also of those that are gone: some line with output of theirs may remain."""
        self.good: list[tuple[int, int]] = []
        """Stretches of the journal, from byte to byte, of which every line is readable."""
        self.bad: list[tuple[int, int]] = []
        self.strays: list[Path] = []
        self.stale: list[Path] = []
        self._check_journal()
        self._check_output()
        for name, what in (
            ("pool.json", "the registry of a pool that is gone"),
            ("socket", "the socket of a pool that is gone"),
            ("jobs.new", "a compaction that was not finished"),
        ):
            if (path / name).exists():
                self.stale.append(path / name)
                self.problems.append(f"{path / name}: {what}")

    def _check_journal(self) -> None:
        """Raises `DamagedStore` if there is nothing that could be mended here."""
        try:
            info = self.journal.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(info.st_mode):
            raise DamagedStore(f"{self.journal} is not a regular file: move it away, or choose another store")
        start = 0
        names: dict[str, int] = {}
        for number, line, wrong in self._lines():
            end = start + len(line)
            if wrong:
                self.problems.append(f"{self.journal}, line {number} (byte {start}): {wrong}")
                self.bad.append((start, end))
            else:
                self._note(line, names)
                self._keep(start, end)
            start = end
        self.seqs = set(names.values())

    def _keep(self, start: int, end: int) -> None:
        if self.good and self.good[-1][1] == start:
            start = self.good.pop()[0]
        self.good.append((start, end))

    def _lines(self) -> Iterator[tuple[int, bytes, str | None]]:
        """Each line, its number, and what is wrong with it."""
        with open(self.journal, "rb") as file:
            for number, line in enumerate(file, 1):
                yield number, line, self._wrong(number, line)

    def _wrong(self, number: int, line: bytes) -> str | None:
        if not line.endswith(b"\n"):
            return "it has no end"
        try:
            if number == 1:
                header = _header(line)
                if header.aqueue > FORMAT:
                    raise DamagedStore(f"{self.journal} has format {header.aqueue}, from a newer aqueue: upgrade")
                self.next_seq = header.next_seq
                return None
            if not is_blank(line):
                decode_job(line)
        except UNREADABLE as error:
            return "it does not name the format" if number == 1 else _neither(line, str(error))
        return None

    def _note(self, line: bytes, names: dict[str, int]) -> None:
        try:
            job = decode_job(line)
        except UNREADABLE:
            if _is(_removed, line):
                names.pop(_removed(line).removed, None)
            return
        names[job.id] = job.seq
        self.next_seq = max(self.next_seq, job.seq + 1)

    def _check_output(self) -> None:
        for file in sorted((self.path / "output").glob("*")):
            seq = file.name.partition("-")[0]
            if not seq.isdigit() or int(seq) not in self.seqs:
                self.strays.append(file)
                self.problems.append(f"{file}: output of no job")

    def repair(self) -> Path | None:
        """Mend what was found; return the directory with what was put aside, if anything was."""
        for path in self.stale:
            path.unlink()
        if not self.bad and not self.strays:
            return None
        aside = self.path / f"aside-{time.time_ns()}"
        aside.mkdir(mode=0o700)
        if self.bad:
            self._copy(self.bad, aside / "jobs.jsonl", b"")
            fresh = self.journal.with_suffix(".new")
            self._copy(self.good, fresh, encode(Header(FORMAT, self.next_seq)) + b"\n")
            os.link(self.journal, aside / "jobs.jsonl.before")
            os.replace(fresh, self.journal)  # at no moment is there no journal
        for file in self.strays:
            os.replace(file, aside / file.name)
        for folder in (aside, self.path):
            sync_directory(folder)
        return aside

    def _copy(self, stretches: list[tuple[int, int]], to: Path, head: bytes) -> None:
        """Write `head` and these stretches of the journal, without what only says how lines belong together."""
        with open(self.journal, "rb") as old, open(to, "wb") as new:
            os.fchmod(new.fileno(), 0o600)
            new.write(head)
            for start, end in stretches:
                old.seek(start)
                while old.tell() < end:
                    line = old.readline()
                    if not head or not (_is(_together, line) or (start == 0 and _is(_header, line))):
                        new.write(line)
            new.flush()
            fdatasync(new.fileno())


def _neither(line: bytes, why: str) -> str | None:
    return None if _is(_removed, line) or _is(_together, line) else why


def _is(decode: object, line: bytes) -> bool:
    assert callable(decode)
    try:
        decode(line)
    except UNREADABLE:
        return False
    return True
