"""How many jobs a second: against a bare loop that only starts shells, and with much in the store."""

import os
import time
from datetime import datetime
from pathlib import Path

from aqueue.jobs.job import Attempt
from tests.bench import stores
from tests.bench.report import Figure
from tests.bench.sandbox import Sandbox, medians, sandbox, until

_SLOTS = 4


def throughput(quick: bool) -> list[Figure]:
    """Many times `true`: jobs a second from the first start to the last stored result."""
    count = 300 if quick else 2000
    bare, ours = medians(3, lambda: bare_loop(count), lambda: drained(count))
    note = f"{count / ours:,.0f}/s, bare {count / bare:,.0f}/s"
    return [Figure(f"throughput, {count:,} true, 4 workers", bare / ours, 0.5, 0.65, "bare spawn loop", True, note)]


def bare_loop(count: int) -> float:
    """Seconds in which `sh -c true` runs so often, four at a time, started by nothing but `posix_spawn`."""
    began = time.perf_counter()
    running: set[int] = set()
    started = 0
    while started < count or running:
        while started < count and len(running) < _SLOTS:
            running.add(os.posix_spawn("/bin/sh", ["sh", "-c", "true"], os.environ))
            started += 1
        running.discard(os.waitpid(-1, 0)[0])
    return time.perf_counter() - began


def drained(count: int, workers: int = 4) -> float:
    """Seconds in which a pool runs so many waiting jobs: from the first start until its log ends, which is after the
    last result was stored."""
    with sandbox() as box:
        box.environ["AQUEUE_WORKERS"] = str(workers)
        stores.fill(box.store, stores.runnable(count))
        box.drain()
        attempts = stores.ended_attempts(box.store)
        _check(attempts, count)
        return box.log.stat().st_mtime - min(_started(attempt) for attempt in attempts)


def drained_process(count: int) -> float:
    """The same, but for the whole life of the pool's process."""
    with sandbox() as box:
        stores.fill(box.store, stores.runnable(count))
        return box.drain()


def queued_and_drained(count: int) -> float:
    """The same from commands in a file: `aqueue enqueue -`, then a pool; both processes."""
    with sandbox() as box:
        commands = box.folder / "commands"
        commands.write_text("true\n" * count)
        return box.aqueue("enqueue", "-", stdin=commands) + box.drain()


def flat(quick: bool) -> list[Figure]:
    """Jobs a second while much is pending, or much that has finished is kept."""
    many, kept, rounds, window = (100_000, 20_000, 1, 300) if quick else (1_000_000, 100_000, 5, 900)
    with sandbox() as full:
        stores.fill(full.store, stores.runnable(many))
        few, much, old = medians(
            rounds, lambda: _rate(window), lambda: _rate_of(full, window), lambda: _rate(window, kept)
        )
    rates = f"{few:,.0f}/s with 1,000"
    return [
        Figure(f"jobs a second, {many:,} pending", much / few, 0.9, 0.97, "1,000 pending", True, rates),
        Figure(f"jobs a second, {kept:,} finished", old / few, 0.9, 0.97, "none finished", True, rates),
    ]


def _rate(window: int, finished: int = 0) -> float:
    with sandbox() as box:
        waiting = stores.pending(1000, first=finished + 1)
        alive = (stores.in_any_directory(job) for job in waiting)
        stores.fill(box.store, [*stores.finished(finished), *alive])
        return _rate_of(box, window)


def _rate_of(box: Sandbox, window: int) -> float:
    """Jobs a second that a new pool runs: `window` of them, after the first twenty."""
    before = stores.journal_size(box.store)
    box.log.unlink(missing_ok=True)
    with box.pool():
        until(lambda: _lines(box.log) > 2 * (window + 40), every=0.05)
    ends = sorted(_ended(attempt) for attempt in stores.ended_attempts(box.store, before))
    return window / (ends[20 + window] - ends[20])


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n")


def _check(attempts: list[Attempt], count: int) -> None:
    done = sum(attempt.exit_code == 0 for attempt in attempts)
    if done != count:
        raise RuntimeError(f"{done} of {count} jobs succeeded")


def _started(attempt: Attempt) -> float:
    return attempt.started_at.timestamp()


def _ended(attempt: Attempt) -> float:
    assert isinstance(attempt.finished_at, datetime)
    return attempt.finished_at.timestamp()
