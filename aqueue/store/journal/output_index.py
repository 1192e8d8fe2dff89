"""Where the output of each job is: not in memory, but in one line of the journal.

Only the output of an attempt whose end is not durable yet is kept here, until it is.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from msgspec.structs import replace

from aqueue.jobs.job import Job


class Lines(Protocol):
    """What reads a journal's lines by the offset at which they begin."""

    def read_line(self, offset: int) -> bytes: ...

    def read_job(self, offset: int) -> Job: ...


class OutputIndex:
    """Finds the output of jobs."""

    def __init__(self, lines: Lines, offsets: dict[int, int]) -> None:
        """`offsets` says where the lines with output begin in the journal, by sequence number."""
        self.read_line = lines.read_line
        self._read_job = lines.read_job
        self._offsets = offsets
        self._unwritten: dict[int, Job] = {}

    def keep(self, ended: Job) -> Job:
        """Keep the output of a job's attempt until it is durable; return the job without it."""
        self._unwritten[ended.seq] = ended
        return without_output(ended)

    @property
    def unwritten(self) -> Collection[int]:
        """The sequence numbers of jobs whose attempt has ended, but whose line is not durable yet."""
        return self._unwritten.keys()

    def mark_durable(self, job: Job, offset: int) -> None:
        """The line of `job` is durable, and begins at `offset`."""
        if job.stdout or job.stderr:
            self._offsets[job.seq] = offset
        else:
            self._offsets.pop(job.seq, None)
        if self._unwritten.get(job.seq) is job:
            del self._unwritten[job.seq]

    def remove(self, job: Job) -> None:
        """`job` is gone."""
        self._offsets.pop(job.seq, None)

    def with_output(self, job: Job) -> Job:
        """The job with what it printed."""
        unwritten, offset = self._unwritten.get(job.seq), self._offsets.get(job.seq)
        if unwritten is not None:
            source = unwritten
        elif offset is not None:
            source = self._read_job(offset)
        else:
            return replace(job, stdout="", stderr="") if job.history else job
        return replace(job, stdout=source.stdout, stderr=source.stderr)

    def locate(self, job: Job) -> int | Job:
        """Where the job's line with its output begins in the journal; where there is none, what to write."""
        unwritten = self._unwritten.get(job.seq)
        return self._offsets.get(job.seq, job) if unwritten is None else unwritten

    def relocate(self, offsets: Mapping[int, int], covered: int, tail: int) -> None:
        """The journal was rewritten: lines in its first `covered` bytes are at `offsets` now, by sequence number; what
        stood behind them follows from `tail` on."""
        for seq, offset in tuple(self._offsets.items()):
            if offset >= covered:
                self._offsets[seq] = offset - covered + tail
            elif seq in offsets:
                self._offsets[seq] = offsets[seq]
            else:  # its job was just being removed
                del self._offsets[seq]


def without_output(job: Job) -> Job:
    """The job as it is kept in memory."""
    return replace(job, stdout=None, stderr=None)
