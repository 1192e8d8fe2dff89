"""What a compacted journal consists of: the ids that were removed, and each job's line as it stands.

A job whose output stands in the old journal keeps that line as it is; all others are written from memory. The work
is done a few hundred jobs at a time, in the journal's thread, so that the event loop gets its turn.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from aqueue.jobs.job import Job
from aqueue.store.journal.file import Batch
from aqueue.store.journal.outputs import OutputIndex
from aqueue.store.journal.records import Removed, encode

SLICE = 500
"""How many jobs are dealt with before others get their turn."""


def slices(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """The jobs, so few at a time that the event loop can be given its turn in between."""
    for start in range(0, len(jobs), SLICE):
        yield jobs[start : start + SLICE]


def batches(
    jobs: Iterable[Job], removed: Iterable[str], outputs: OutputIndex, moved: dict[int, int]
) -> Iterator[Batch]:
    """The batches of the new journal, see `Journal.rewrite`. `moved` is told where lines with output are in it, by
    sequence number."""
    gone = [encode(Removed(name)) + b"\n" for name in removed]
    alive = list(jobs)

    def all_of_them() -> Iterator[Batch]:
        yield lambda _: (b"".join(gone), len(gone))
        for part in slices(alive):
            yield partial(_lines, part, [outputs.place(job) for job in part], outputs, moved)

    return all_of_them()


def _lines(
    part: Sequence[Job], places: Sequence[int | Job], outputs: OutputIndex, moved: dict[int, int], start: int
) -> tuple[bytes, int]:
    lines = []
    for job, place in zip(part, places, strict=True):
        if isinstance(place, int):
            moved[job.seq] = start
            line = outputs.read_line(place)
        else:
            line = encode(place)
        lines.append(line + b"\n")
        start += len(lines[-1])
    return b"".join(lines), len(lines)
