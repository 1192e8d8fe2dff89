"""Checking a store that nobody holds, and mending it: what is readable stays, the rest is put aside.

Nothing is thrown away but what tells nothing: the registry and socket of a pool that is gone, and a compaction
that was not finished. Lines that cannot be read and output of no job are moved into a directory of their own.
"""

import os
import stat
import time
from pathlib import Path
from typing import BinaryIO

from aqueue.errors import UNREADABLE, DamagedStore
from aqueue.store.journal.reader import read_journal
from aqueue.store.journal.records import (
    FORMAT,
    Header,
    Removed,
    Together,
    decode_header,
    decode_job,
    decode_special,
    encode,
    is_good,
)
from aqueue.system.posix import fdatasync, sync_directory


class IntegrityCheck:
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
        with open(self.journal, "rb") as file:
            size = info.st_size
            try:
                end, damaged = read_journal(file.fileno(), self.journal).end, False
            except DamagedStore:
                end, damaged = size, True
            names = self._check_lines(file, end, batches=damaged)
        if end < size:
            self.problems.append(f"{self.journal}, from byte {end} on: torn by a crash, and never said to be stored")
            self.bad.append((end, size))
        self.seqs = set(names.values())

    def _check_lines(self, file: BinaryIO, size: int, *, batches: bool) -> dict[str, int]:
        """Note what is good and what is bad of the first `size` bytes, also whether `batches` are complete; return
        the jobs' numbers by their ids."""
        names: dict[str, int] = {}
        start = missing = 0
        batch = (0, 0, 0)
        for number, line in enumerate(file, 1):
            if start >= size:
                break
            end = start + len(line)
            wrong = self._wrong(number, line)
            if wrong:
                self.problems.append(f"{self.journal}, line {number} (byte {start}): {wrong}")
                self.bad.append((start, end))
            else:
                self._keep(start, end)
            special = None if wrong or number == 1 else self._note(line, names)
            if batches and missing and special is not None:
                self._note_batch(*batch)
            if isinstance(special, Together):
                missing, batch = special.together, (number, start, end)
            else:
                missing = max(0, missing - 1) if special is None else 0
            start = end
        if batches and missing:
            self._note_batch(*batch)
        return names

    def _note_batch(self, number: int, start: int, end: int) -> None:
        where = f"{self.journal}, line {number} (byte {start})"
        self.problems.append(f"{where}: the jobs that it says belong together are not behind it")
        self.bad.append((start, end))

    def _keep(self, start: int, end: int) -> None:
        if self.good and self.good[-1][1] == start:
            start = self.good.pop()[0]
        self.good.append((start, end))

    def _wrong(self, number: int, line: bytes) -> str | None:
        if not line.endswith(b"\n"):
            return "it has no end"
        if number > 1:
            return None if is_good(line) or not line.strip() else "it is no line of a journal"
        try:
            header = decode_header(line)
        except UNREADABLE:
            return "it does not name the format"
        if header.aqueue > FORMAT:
            raise DamagedStore(f"{self.journal} has format {header.aqueue}, from a newer aqueue: upgrade")
        self.next_seq = header.next_seq
        return None

    def _note(self, line: bytes, names: dict[str, int]) -> Removed | Together | None:
        """Take in a good line; return it if it is no job's."""
        special = decode_special(line)
        if special is None:
            job = decode_job(line)
            names[job.id] = job.seq
            self.next_seq = max(self.next_seq, job.seq + 1)
        elif isinstance(special, Removed):
            names.pop(special.removed, None)
        return special

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
                    if not head or not (start == 0 or isinstance(decode_special(line), Together)):
                        new.write(line)
                    start = old.tell()
            new.flush()
            fdatasync(new.fileno())
