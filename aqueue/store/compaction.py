"""What a compacted journal consists of: the ids that were removed, and each job's line as it stands.

A job whose output stands in the old journal keeps that line as it is; all others are written from memory. The work
is done a few hundred jobs at a time, in the journal's thread, so that the event loop gets its turn.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from aqueue.job import Job
from aqueue.store.journal import Batch
from aqueue.store.recovery import Removed, encode

SLICE = 500
"""How many jobs are dealt with before others get their turn."""


def slices(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """The jobs, so few at a time that the event loop can be given its turn in between."""
    for start in range(0, len(jobs), SLICE):
        yield jobs[start : start + SLICE]


def batches(
    jobs: Iterable[Job],
    unwritten: Mapping[int, Job],
    removed: Iterable[str],
    outputs: Mapping[int, int],
    read_line: Callable[[int], bytes],
    moved: dict[int, int],
) -> Iterator[Batch]:
    """The batches of the new journal, see `Journal.rewrite`. `unwritten` has the jobs, by sequence number, whose
    result is not in the old one yet, and so has their output. `outputs` says where the lines with output are in
    the old one, by sequence number; `moved` is told where they are in the new one."""
    gone = [encode(Removed(name)) + b"\n" for name in removed]
    alive = list(jobs)

    def all_of_them() -> Iterator[Batch]:
        yield lambda _: (b"".join(gone), len(gone))
        for part in slices(alive):
            whole = [unwritten.get(job.seq, job) for job in part]
            yield partial(_lines, whole, [outputs.get(job.seq) for job in part], read_line, moved)

    return all_of_them()


def _lines(
    part: Sequence[Job],
    offsets: Sequence[int | None],
    read_line: Callable[[int], bytes],
    moved: dict[int, int],
    start: int,
) -> tuple[bytes, int]:
    lines = []
    for job, offset in zip(part, offsets, strict=True):
        if offset is None:
            line = encode(job)
        else:
            moved[job.seq] = start
            line = read_line(offset)
        lines.append(line + b"\n")
        start += len(lines[-1])
    return b"".join(lines), len(lines)
