"""How soon a command runs: after it was enqueued, or after the moment for which it was scheduled.

Each command's first instruction writes a line into a named pipe, and the clock is read when that line arrives here:
what a record says (`started_at`) is the moment of the claim, before the shell exists.
"""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta

import aqueue
from aqueue.settings.config import Config
from tests.bench.report import Figure
from tests.bench.sandbox import Fifo, Sandbox, percentile, sandbox


def pick_up(quick: bool) -> list[Figure]:
    """From the client's `enqueue` returning to the command's first instruction; the pool is idle each time."""
    times = 100 if quick else 1000
    with sandbox() as box, box.pool():
        waits = asyncio.run(pick_ups(box.config, box.fifo("fifo"), times))
    return [
        Figure(f"pick-up, {times:,} times, p50", percentile(waits, 50), 5, 2, "ms"),
        Figure(f"pick-up, {times:,} times, p99", percentile(waits, 99), 15, 5, "ms"),
    ]


async def pick_ups(config: Config, fifo: Fifo, times: int) -> list[float]:
    """Milliseconds from `enqueue` returning to the command's first instruction, with a pool that is idle each time."""
    waits = []
    async with aqueue.connect(config=config) as queue:
        for _ in range(times):
            job = await queue.enqueue(f"echo >{fifo.path}")
            acknowledged = time.perf_counter()
            fifo.lines()  # blocking: nothing else goes on here
            waits.append((time.perf_counter() - acknowledged) * 1000)
            await queue.wait(job.id)
    return waits


def timers(quick: bool) -> list[Figure]:
    """Jobs that are due at random moments: how late each command's first instruction is."""
    count, seconds = (150, 1.5) if quick else (1000, 10)
    with sandbox() as box, box.pool():
        fifo = box.fifo("fifo")
        due = asyncio.run(_schedule(box, f"echo $AQUEUE_JOB_ID >{fifo.path}", count, seconds))
        late = []
        while due:
            names = fifo.lines()
            now = time.time()
            late += [(now - due.pop(name)) * 1000 for name in names]
    note = f"p50 {percentile(late, 50):.1f} ms"
    what = f"timers, {count:,} in {seconds:g} s: first instruction - due, p99"
    return [Figure(what, percentile(late, 99), 15, 5, "ms", note=note)]


async def _schedule(box: Sandbox, command: str, count: int, seconds: float) -> dict[str, float]:
    """Dispatcher the jobs, the first of them in a second; return when each is due."""
    dice = random.Random(1)
    begin = datetime.now(UTC) + timedelta(seconds=1)
    specs = [
        aqueue.JobSpec(command=command, run_at=begin + timedelta(seconds=dice.uniform(0, seconds)))
        for _ in range(count)
    ]
    async with aqueue.connect(config=box.config) as queue:
        return {job.id: job.due_at.timestamp() for job in await queue.enqueue_many(specs)}
