"""What a rewritten journal consists of: the removals, and each job's line as it stands.

A job whose output stands in the old journal keeps that line; all others are written from memory. The work is done a
few hundred jobs at a time, in the journal's thread, so that the event loop gets its turn.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from aqueue.jobs.job import Job
from aqueue.store.journal.file import Chunk
from aqueue.store.journal.output_index import OutputIndex
from aqueue.store.journal.records import Removal, encode
from aqueue.store.journal.slicing import slices


def snapshot(
    jobs: Iterable[Job], removed: Iterable[str], outputs: OutputIndex, moved: dict[int, int]
) -> Iterator[Chunk]:
    """The chunks of the new journal as the store is now, see `JournalFile.rewrite`. As they are made, `moved` gets
    where lines with output begin in it, by sequence number."""
    return _chunks(list(jobs), list(removed), outputs, moved)


def _chunks(
    jobs: Sequence[Job], removed: Sequence[str], outputs: OutputIndex, moved: dict[int, int]
) -> Iterator[Chunk]:
    for ids in slices(removed):
        yield partial(_removals, ids)
    for part in slices(jobs):
        yield partial(_jobs, part, [outputs.locate(job) for job in part], outputs, moved)


def _removals(ids: Sequence[str], _: int) -> tuple[bytes, int]:
    return b"".join([encode(Removal(job_id)) + b"\n" for job_id in ids]), len(ids)


def _jobs(
    jobs: Sequence[Job], places: Sequence[int | Job], outputs: OutputIndex, moved: dict[int, int], start: int
) -> tuple[bytes, int]:
    lines = []
    for job, place in zip(jobs, places, strict=True):
        if isinstance(place, int):
            moved[job.seq] = start
            line = outputs.read_line(place)
        else:
            line = encode(place)
        lines.append(line + b"\n")
        start += len(lines[-1])
    return b"".join(lines), len(lines)
