"""The PostgreSQL store: what a database does in a second, and what it adds to a pool's work.

Server and pools share the machine, which is as unkind as it gets. Durability is on: every claim and every result is
synced before it counts.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg

from aqueue.settings.config import Config
from tests.bench import databases, idle, latency, throughput
from tests.bench.report import Figure
from tests.bench.sandbox import medians, percentile, sandbox
from tests.bench.stores import BLOCKER
from tests.bench.turnover import turned_over

_HEARTBEAT = Config(store="").lease / 4
"""Seconds."""


def turnover(quick: bool) -> list[Figure]:
    """Claims and results a second, without processes: by the number of pools, and of jobs that share a round trip."""
    jobs, rounds = (400, 1) if quick else (4000, 3)
    with databases.database() as url:
        databases.fill(url, 64 * jobs * rounds)

        def rate(pools: int, workers: int, times: int = 1) -> Callable[[], float]:
            count = jobs * times
            return lambda: pools * count / max(turned_over(url, count, pools=pools, workers=workers), key=max)[-1]

        one, two, four, single, many = medians(rounds, rate(1, 4), rate(2, 4), rate(4, 4), rate(1, 1), rate(1, 32, 8))
    each = f"1: {one:,.0f}/s, 2: {two:,.0f}/s, 4: {four:,.0f}/s, with 4 workers each"
    return [
        Figure("claims and results a second, 1 pool", one, 1000, 3000, "a second", True, each),
        Figure("the same, 4 pools", four / one, 1, 1.5, "1 pool", True),
        Figure("the same, 32 jobs in a round trip", many / single, 4, 10, "1 job", True, f"{many:,.0f}/{single:,.0f}"),
    ]


def backlog(quick: bool) -> list[Figure]:
    """Claims and results a second, with few jobs and with many."""
    many, kept, rounds = (50_000, 50_000, 1) if quick else (1_000_000, 2_000_000, 11)
    with databases.database() as full:
        databases.fill(full, many, ended=kept)
        few, much = medians(rounds, lambda: _small_rate(1000), lambda: _rate(full, 900))
    what = f"claims and results a second, {many:,} pending, {kept:,} ended"
    return [Figure(what, much / few, 0.9, 0.97, "1,000 pending", True, f"{few:,.0f}/s with 1,000")]


def _small_rate(count: int) -> float:
    with databases.database() as url:
        databases.fill(url, count)
        return _rate(url, 900)


def _rate(url: str, jobs: int) -> float:
    return jobs / turned_over(url, jobs)[0][-1]


def horizon(quick: bool) -> list[Figure]:
    """While an old snapshot keeps every dead row from being removed: the last tenth of many jobs against the first."""
    jobs = 10_000 if quick else 100_000
    with databases.database() as url:
        databases.fill(url, jobs + 1000)
        with psycopg.connect(url) as other:
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            other.execute("SELECT count(*) FROM aqueue.queue")
            (times,) = turned_over(url, jobs, workers=32)
    first, last = times[0], times[-1] - times[-2]
    note = f"{jobs / 10 / first:,.0f}/s, then {jobs / 10 / last:,.0f}/s"
    what = f"{jobs:,} jobs while an old snapshot is held: last tenth"
    return [Figure(what, first / last, 0.8, 0.95, "first tenth", True, note)]


def shared_throughput(quick: bool) -> list[Figure]:
    """Many times `true` through one pool: on PostgreSQL against the JSON store."""
    count, rounds = (300, 1) if quick else (2000, 5)
    return [_throughput(count, workers, rounds) for workers in ((4,) if quick else (4, 8))]


def _throughput(count: int, workers: int, rounds: int) -> Figure:
    theirs, ours = medians(rounds, lambda: throughput.drained(count, workers), lambda: _drained(count, workers))
    note = f"{count / ours:,.0f}/s, JSON {count / theirs:,.0f}/s"
    what = f"throughput on PostgreSQL, {count:,} true, {workers} workers"
    return Figure(what, theirs / ours, 0.7, 0.8, "JSON store", True, note)


def _drained(count: int, workers: int) -> float:
    """See `throughput.drained`."""
    with databases.database() as url, databases.shared_sandbox(url) as box:
        box.environ["AQUEUE_WORKERS"] = str(workers)
        databases.fill(url, count)
        box.drain()
        ended, first = databases.ended_since(url)
        if ended != count:
            raise RuntimeError(f"{ended} of {count} jobs ended")
        return box.log.stat().st_mtime - first


def shared_pick_up(quick: bool) -> list[Figure]:
    """From `enqueue` returning on another host to the command's first instruction; the pool is idle each time."""
    times = 50 if quick else 500
    with databases.database() as url, databases.shared_sandbox(url) as box, box.pool(), sandbox() as elsewhere:
        config = Config(store=url, directory=str(elsewhere.store))
        waits = asyncio.run(latency.pick_ups(config, box.fifo("fifo"), times))
    return [
        Figure(f"pick-up from another host, {times:,} times, p50", percentile(waits, 50), 10, 5, "ms"),
        Figure(f"pick-up from another host, {times:,} times, p99", percentile(waits, 99), 25, 10, "ms"),
    ]


def shared_idle(quick: bool) -> list[Figure]:
    """What a pool does between heartbeats with many jobs in the database, and what it holds of them."""
    pending = 50_000 if quick else 1_000_000
    with databases.database() as url, databases.shared_sandbox(url) as box, box.pool() as pid:
        time.sleep(idle.SETTLE)
        empty = psutil.Process(pid).memory_info().rss
    with databases.database() as url, databases.shared_sandbox(url) as box:
        databases.fill(url, 4, command=BLOCKER, priority=9)
        databases.fill(url, pending)
        with box.pool() as pid:
            time.sleep(idle.SETTLE)
            full = psutil.Process(pid).memory_info().rss
    return [
        Figure(f"growth of a pool on PostgreSQL, {pending:,} pending", (full - empty) / 1e6, 5, 1, "MB"),
        *_between_heartbeats(1 if quick else 4),
    ]


def _between_heartbeats(beats: int) -> list[Figure]:
    what = f"idle on PostgreSQL, {beats * _HEARTBEAT:g} s: context switches"
    if not Path("/proc/self/task").exists():
        return []
    with databases.database() as url, databases.shared_sandbox(url) as box, box.pool() as pid:
        time.sleep(idle.SETTLE)
        before = idle.switches(pid)
        time.sleep(beats * _HEARTBEAT)
        made = idle.switches(pid) - before
    return [Figure(what, made / beats, 12, 6, "a heartbeat", note=f"one every {_HEARTBEAT:g} s")]
