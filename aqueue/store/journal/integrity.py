"""Checking a store that nobody holds, and repairing it: what is readable stays, the rest is put aside.

Nothing is thrown away but what says nothing: the registry and socket of a pool that is gone, and a compaction
that was not finished. Lines that cannot be read and output of no job are moved into a directory of their own.
"""

import os
import stat
import time
from pathlib import Path
from typing import BinaryIO

from aqueue import layout
from aqueue.errors import UNREADABLE, DamagedStore
from aqueue.jobs.job import Job
from aqueue.store.journal.legacy import decoder, upgraded
from aqueue.store.journal.reader import is_good, read_journal
from aqueue.store.journal.records import FORMAT, Batch, Header, Record, Removal, decode_header, encode
from aqueue.system import fdatasync, sync_directory

_LEFT_BEHIND = {
    layout.REGISTRY: "the registry of a pool that is gone",
    layout.SOCKET: "the socket of a pool that is gone",
    layout.REWRITTEN: "a compaction that was not finished",
}


class IntegrityCheck:
    """What is found in the store at `path`; the caller holds its lock."""

    def __init__(self, path: Path) -> None:
        """Raises `DamagedStore` if there is nothing that could be repaired here."""
        self.path = path
        self.journal = path / layout.JOURNAL
        self.problems: list[str] = []
        self.next_seq = 1
        self.seqs: set[int] = set()
        """The numbers of the jobs that there are."""
        self.orphaned_output: list[Path] = []
        """Files with output of no job."""
        self.stale: list[Path] = []
        self._format: int | None = None
        """None while the first line does not say."""
        self._good: list[tuple[int, int]] = []
        """Stretches of the journal, from byte to byte, of which every line is readable."""
        self._bad: list[tuple[int, int]] = []
        self._check_journal()
        self._check_output()
        for name, what in _LEFT_BEHIND.items():
            if (path / name).exists():
                self.stale.append(path / name)
                self.problems.append(f"{path / name}: {what}")

    def _check_journal(self) -> None:
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
            seqs = self._check_lines(file, end, batches=damaged)
        if end < size:
            self.problems.append(f"{self.journal}, from byte {end} on: torn by a crash, and never said to be stored")
            self._bad.append((end, size))
        self.seqs = set(seqs.values())

    def _check_lines(self, file: BinaryIO, size: int, *, batches: bool) -> dict[str, int]:
        """Note what is good and what is bad of the first `size` bytes, also whether `batches` are complete; return
        the jobs' numbers by their ids."""
        seqs: dict[str, int] = {}
        start = missing = 0
        head = (0, 0, 0)
        for number, line in enumerate(file, 1):
            if start >= size:
                break
            end = start + len(line)
            problem = self._problem(number, line)
            if problem:
                self.problems.append(f"{self.journal}, line {number} (byte {start}): {problem}")
                self._bad.append((start, end))
            else:
                self._keep(start, end)
            start, line_start = end, start
            if number == 1 or not line.strip():
                continue
            record = None if problem else decoder(self._format)(line)
            if record is not None:
                self._note(record, seqs)
            is_job = record is None or isinstance(record, Job)
            if batches and missing and not is_job:
                self._note_incomplete(*head)
            if isinstance(record, Batch):
                missing, head = record.jobs, (number, line_start, end)
            else:
                missing = max(0, missing - 1) if is_job else 0
        if batches and missing:
            self._note_incomplete(*head)
        return seqs

    def _note_incomplete(self, number: int, start: int, end: int) -> None:
        where = f"{self.journal}, line {number} (byte {start})"
        self.problems.append(f"{where}: the jobs that it says belong together are not behind it")
        self._bad.append((start, end))

    def _keep(self, start: int, end: int) -> None:
        if self._good and self._good[-1][1] == start:
            start = self._good.pop()[0]
        self._good.append((start, end))

    def _problem(self, number: int, line: bytes) -> str | None:
        """What is wrong with a line, if anything is."""
        if not line.endswith(b"\n"):
            return "it has no end"
        if number > 1:
            readable = is_good(line, decoder(self._format)) or not line.strip()
            return None if readable else "it is no line of a journal"
        try:
            header = decode_header(line)
        except UNREADABLE:
            return "it does not name the format"
        if header.aqueue > FORMAT:
            raise DamagedStore(f"{self.journal} has format {header.aqueue}, from a newer aqueue: upgrade")
        self._format = header.aqueue
        self.next_seq = header.next_seq
        return None

    def _note(self, record: Record, seqs: dict[str, int]) -> None:
        if isinstance(record, Job):
            seqs[record.id] = record.seq
            self.next_seq = max(self.next_seq, record.seq + 1)
        elif isinstance(record, Removal):
            seqs.pop(record.id, None)

    def _check_output(self) -> None:
        for file in sorted((self.path / layout.OUTPUT).glob("*")):
            seq = file.name.partition("-")[0]
            if not seq.isdigit() or int(seq) not in self.seqs:
                self.orphaned_output.append(file)
                self.problems.append(f"{file}: output of no job")

    def repair(self) -> Path | None:
        """Repair what was found; return the directory with what was put aside, if anything was."""
        for path in self.stale:
            path.unlink()
        if not self._bad and not self.orphaned_output:
            return None
        aside = self.path / layout.aside(time.time_ns())
        aside.mkdir(mode=0o700)
        if self._bad:
            self._copy_bad(aside / layout.JOURNAL)
            fresh = self.path / layout.REWRITTEN
            self._copy_good(fresh)
            os.link(self.journal, aside / f"{layout.JOURNAL}.before")
            os.replace(fresh, self.journal)  # at no moment is there no journal
        for file in self.orphaned_output:
            os.replace(file, aside / file.name)
        for folder in (aside, self.path):
            sync_directory(folder)
        return aside

    def _copy_bad(self, target: Path) -> None:
        with open(self.journal, "rb") as journal, _create(target) as copy:
            for start, end in self._bad:
                journal.seek(start)
                copy.write(journal.read(end - start))
            _sync(copy)

    def _copy_good(self, target: Path) -> None:
        """Write what is readable in today's format, without what only says how lines belong together."""
        with open(self.journal, "rb") as journal, _create(target) as copy:
            copy.write(encode(Header(FORMAT, self.next_seq)) + b"\n")
            for start, end in self._good:
                journal.seek(start)
                while start < end:
                    line = journal.readline()
                    if start > 0 and line.strip():
                        record = decoder(self._format)(line)
                        if isinstance(record, Job | Removal):
                            copy.write(line if self._format == FORMAT else upgraded(line, self._format) + b"\n")
                    start += len(line)
            _sync(copy)


def _create(path: Path) -> BinaryIO:
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))


def _sync(file: BinaryIO) -> None:
    file.flush()
    fdatasync(file.fileno())
