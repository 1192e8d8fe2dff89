"""Many jobs: how soon a pool starts on a large store, what a job costs in memory, how many run at a time."""

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import msgspec
import psutil

from aqueue.jobs.job import Job
from aqueue.jobs.spec import JobSpec
from tests.bench import stores
from tests.bench.report import Figure
from tests.bench.sandbox import AQUEUE, medians, sandbox

_RUNNING = "exec sleep 600"


def opening(quick: bool) -> list[Figure]:
    """From before a pool's process is made until the first command's first instruction; the journal is in the
    page cache, as it was written just before."""
    count = 100_000 if quick else 1_000_000
    (took,) = medians(1 if quick else 3, lambda: _open(count))
    return [Figure(f"open, {count:,} pending, until the first starts", took, 5, 2.5, "s")]


def _open(count: int) -> float:
    with sandbox() as box:
        fifo = box.fifo("fifo")
        (first,) = stores.runnable(1, f"echo >{fifo.path}")
        stores.fill(box.store, [first, *stores.pending(count - 1, first=2)])
        began = time.perf_counter()
        with box.started(*AQUEUE, "worker", "start"):
            fifo.lines()
            return time.perf_counter() - began


def memory(quick: bool) -> list[Figure]:
    """Growth of the pool's resident size, over a pool with the default workers on an empty store.

    While four commands run, other jobs wait, to start at once or each at a time of its own: read from the journal, or
    taken in as one batch of a command's.
    """
    pending, running = (100_000, 300) if quick else (1_000_000, 2000)
    empty = _resident([])
    note = f"{empty / 1e6:.0f} MB on an empty store"

    def per_job(size: int, jobs: int) -> float:
        return (size - empty) / jobs / 1000

    def row(what: str, size: int, must: float, aim: float) -> Figure:
        return Figure(f"resident size per {what}, {pending:,} jobs", per_job(size, pending), must, aim, "KB", note=note)

    def plain() -> Iterator[Job]:
        return stores.pending(pending, first=5)

    def timed() -> Iterator[Job]:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        return stores.scheduled(pending, tomorrow, every=timedelta(seconds=1), first=5)

    return [
        row("pending job", _resident(plain()), 0.5, 0.45),
        row("job with a run_at of its own", _resident(timed()), 0.65, 0.6),
        row("pending job of one batch", _resident_batch(plain()), 0.75, 0.6),
        row("job with a run_at of its own, of one batch", _resident_batch(timed()), 0.85, 0.7),
        Figure(
            f"resident size per running job, {running:,} running",
            per_job(_resident_running(running), running),
            30,
            15,
            "KB",
            note=note,
        ),
    ]


def _resident(jobs: Iterable[Job]) -> int:
    """Bytes, while four commands run and these jobs wait."""
    with sandbox() as box:
        stores.fill(box.store, chain(stores.blockers(), jobs))
        with box.pool() as pid:
            return _settled_size(pid)


def _resident_batch(jobs: Iterable[Job]) -> int:
    """The same when the jobs were queued while the pool ran, by one command."""
    with sandbox() as box:
        stores.fill(box.store, stores.blockers())
        with box.pool() as pid:
            box.aqueue("enqueue", "-", stdin=_specs(box.folder / "specs", jobs))
            return _settled_size(pid)


def _specs(path: Path, jobs: Iterable[Job]) -> Path:
    """A file of what was asked for, as JSON lines."""
    with open(path, "wb") as file:
        for job in jobs:
            spec = JobSpec(command=job.command, run_at=job.run_at)
            file.write(msgspec.json.encode(spec) + b"\n")
    return path


def _resident_running(count: int) -> int:
    """Bytes, while so many commands run."""
    with sandbox() as box:
        fifo = box.fifo("fifo")
        stores.fill(box.store, stores.runnable(count, f"echo >{fifo.path}; {_RUNNING}"))
        with box.pool("--count", str(count)) as pid:
            fifo.count(count)
            return _settled_size(pid)


def _settled_size(pid: int) -> int:
    time.sleep(0.3)  # what it was just doing may still hold memory
    return int(psutil.Process(pid).memory_info().rss)


def breadth(quick: bool) -> list[Figure]:
    """As many workers as jobs, all of which sleep: the whole life of a pool's process."""
    count, seconds = (300, 1) if quick else (2000, 5)
    what = f"{count:,} x sleep {seconds}, {count:,} workers"
    took = _broad(count, seconds)
    must, aim = (seconds + extra * count / 2000 for extra in (5, 2))
    return [Figure(what, took, must, aim, "s")]


def _broad(count: int, seconds: int) -> float:
    with sandbox() as box:
        stores.fill(box.store, stores.runnable(count, f"sleep {seconds}"))
        return box.drain("--count", str(count))
