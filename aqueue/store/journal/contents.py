"""What a journal says when it is read from its beginning: each record applied to what the earlier ones made."""

from pathlib import Path

from msgspec.structs import force_setattr

from aqueue.jobs.job import Job
from aqueue.store.journal.interning import Interner
from aqueue.store.journal.records import FORMAT, Record, Removal


class Contents:
    """The state that a journal's records lead to, and where the journal ends."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        """By id; without output, which stays in the file."""
        self.removed: set[str] = set()
        self.output_offsets: dict[int, int] = {}
        """Where the line with a job's output begins, by sequence number."""
        self.next_seq = 1
        self.format = FORMAT
        self.lines = 0
        self.end = 0
        """The length in bytes of what is whole."""
        self.torn: Path | None = None
        """Where a torn tail was put, if there was one."""
        self._interner = Interner()

    def apply(self, record: Record, offset: int) -> None:
        """Apply a record whose line begins at `offset`."""
        if type(record) is Job:
            self._put(record, offset)
        elif type(record) is Removal:
            self._remove(record.id)

    def _put(self, job: Job, offset: int) -> None:
        if job.stdout or job.stderr:
            self.output_offsets[job.seq] = offset
        elif self.output_offsets:
            self.output_offsets.pop(job.seq, None)
        if job.stdout is not None or job.stderr is not None:
            force_setattr(job, "stdout", None)
            force_setattr(job, "stderr", None)
        self._interner.intern(job)
        self.jobs[job.id] = job
        if job.seq >= self.next_seq:
            self.next_seq = job.seq + 1

    def _remove(self, job_id: str) -> None:
        job = self.jobs.pop(job_id, None)
        if job is not None:
            self.output_offsets.pop(job.seq, None)
        self.removed.add(job_id)
