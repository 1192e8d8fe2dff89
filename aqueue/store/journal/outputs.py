"""What attempts printed, which is not kept in memory: each job's is in one line of the journal, and this knows where.

Only the output of an attempt whose end is not durable yet is held here, until it is.
"""

from collections.abc import Callable, Collection, Mapping

from msgspec.structs import replace

from aqueue.jobs.job import Job
from aqueue.store.journal.records import decode_job


class OutputIndex:
    """Where the output of each job is."""

    def __init__(self, read_line: Callable[[int], bytes], offsets: dict[int, int]) -> None:
        """`offsets` says where the lines with output begin in the journal, by sequence number; `read_line` reads
        one."""
        self.read_line = read_line
        self._offsets = offsets
        self._unwritten: dict[int, Job] = {}

    def hold(self, ended: Job) -> Job:
        """Keep what a job's attempt printed until it is durable; return the job without it."""
        self._unwritten[ended.seq] = ended
        return without(ended)

    @property
    def held(self) -> Collection[int]:
        """The sequence numbers of jobs whose attempt has ended, but whose line is not durable yet."""
        return self._unwritten.keys()

    def written(self, job: Job, offset: int) -> None:
        """Take in that a job's line is durable, and where it begins."""
        if job.stdout or job.stderr:
            self._offsets[job.seq] = offset
        else:
            self._offsets.pop(job.seq, None)
        if self._unwritten.get(job.seq) is job:
            del self._unwritten[job.seq]

    def forget(self, job: Job) -> None:
        self._offsets.pop(job.seq, None)

    def of(self, job: Job) -> Job:
        """The job with what it printed."""
        unwritten, offset = self._unwritten.get(job.seq), self._offsets.get(job.seq)
        if unwritten is not None:
            line = unwritten
        elif offset is not None:
            line = decode_job(self.read_line(offset))
        else:
            return replace(job, stdout="", stderr="") if job.history else job
        return replace(job, stdout=line.stdout, stderr=line.stderr)

    def place(self, job: Job) -> int | Job:
        """Where in the journal the job's line with its output begins; where there is none, the line itself as a job."""
        held = self._unwritten.get(job.seq)
        return self._offsets.get(job.seq, job) if held is None else held

    def moved(self, offsets: Mapping[int, int], covered: int, tail: int) -> None:
        """Take in that the journal was compacted: lines in its first `covered` bytes are at `offsets` now, by sequence
        number; what stood behind them follows from `tail` on."""
        for seq, offset in tuple(self._offsets.items()):
            if offset >= covered:
                self._offsets[seq] = offset - covered + tail
            elif seq in offsets:
                self._offsets[seq] = offsets[seq]
            else:  # its job was just being removed
                del self._offsets[seq]


def without(job: Job) -> Job:
    """The job as it is kept in memory."""
    return replace(job, stdout=None, stderr=None)
