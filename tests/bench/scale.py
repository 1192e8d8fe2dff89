"""Many jobs: how soon a pool starts on a large store, what a job costs in memory, how many run at a time."""

import time

import psutil

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
    """Growth of the pool's resident size, over a pool with the default workers on an empty store."""
    pending, running = (100_000, 300) if quick else (1_000_000, 2000)
    empty = _resident(0)
    per_pending = (_resident(pending) - empty) / pending
    per_running = (_resident_running(running) - empty) / running
    note = f"{empty / 1e6:.0f} MB on an empty store"
    return [
        Figure(f"resident size per pending job, {pending:,} pending", per_pending / 1000, 1.0, 0.6, "KB", note=note),
        Figure(f"resident size per running job, {running:,} running", per_running / 1000, 30, 15, "KB", note=note),
    ]


def _resident(pending: int) -> int:
    """Bytes, while four commands run and so many jobs wait."""
    with sandbox() as box:
        stores.fill(box.store, stores.backlog(pending))
        with box.pool() as pid:
            return _settled_size(pid)


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
