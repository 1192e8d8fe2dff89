"""How long the event loop of an application with a pool in it stands still, at the most, while the pool has much to do.

The pool runs inside a fresh process (this module, as a program). A callback asks to be called every millisecond; the
longest time between two calls, less that millisecond, is the stall. A loop without a pool shows what the machine
adds by itself.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import msgspec

from aqueue.api.pool import Pool
from aqueue.jobs.job import Job, State
from aqueue.jobs.spec import JobSpec
from aqueue.settings.config import Config
from tests.bench import stores
from tests.bench.commands import json_lines
from tests.bench.report import Figure
from tests.bench.sandbox import AQUEUE, PATIENCE, sandbox

_TICK = 0.001


def pause(quick: bool) -> list[Figure]:
    """The longest stall of each kind of work."""
    alive, batch = (100_000, 10_000) if quick else (1_000_000, 100_000)
    bare = f"bare loop {_stall('nothing', 0):.1f} ms"
    return [
        Figure(f"longest stall: {what}", _stall(work, size), 50, 10, "ms", note=bare)
        for work, size, what in (
            ("compaction", alive, f"compaction, {alive:,} jobs"),
            ("bulk", batch, f"{batch:,} enqueued by another process"),
            ("embedded", batch, f"{batch:,} enqueued by the application itself"),
        )
    ]


def _stall(work: str, size: int) -> float:
    with sandbox() as box:
        if work == "compaction":
            stores.fill(box.store, _mostly_dead(size))
        lines = json_lines(box.folder, size)
        result = box.folder / "printed"
        root = Path(__file__).parents[2]
        box.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), box.environ.get("PYTHONPATH")]))
        box.seconds(sys.executable, "-m", __name__, work, str(box.store), str(lines), str(size))
        return msgspec.json.decode(result.read_bytes().splitlines()[-1], type=float)


def _mostly_dead(alive: int) -> Iterator[Job]:
    """So many jobs, and so many dead lines that a few changes more bring a compaction."""
    again = chain.from_iterable(stores.backlog(alive) for _ in range(10))
    return chain(stores.backlog(alive), islice(again, alive + 4985))


class Ticker:
    """Measures how late a callback is that asks to be called every millisecond."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._loop = asyncio.get_running_loop()
        self._before = time.perf_counter()
        self._timer = self._loop.call_later(_TICK, self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._before - _TICK)
        self._before = now
        self._timer = self._loop.call_later(_TICK, self._tick)

    def stop(self) -> float:
        """The longest stall so far, in milliseconds; nothing is measured any more."""
        self._timer.cancel()
        return self.longest * 1000


async def _measure(work: str, store: str, lines: str, size: int) -> float:
    if work == "nothing":
        ticker = Ticker()
        await asyncio.sleep(0.5)
        return ticker.stop()
    async with Pool(config=Config(store=store)) as pool:
        await asyncio.sleep(0.3)  # its start is over
        ticker = Ticker()
        if work == "compaction":
            await _compaction(pool, f"{store}/jobs.jsonl")
        elif work == "bulk":
            await _bulk(lines, store)
        else:
            await pool.enqueue_many([JobSpec(command="true")] * size)
        await asyncio.sleep(0.2)
        longest = ticker.stop()
        pool.request_stop(now=True)
        return longest


async def _compaction(pool: Pool, journal: str) -> None:
    """A few changes more, and some time later the journal is a new file."""
    before = os.stat(journal).st_ino
    waiting = [job.id async for job in pool.jobs(State.PENDING, limit=20)]
    await pool.cancel(*waiting)
    async with asyncio.timeout(PATIENCE):
        while os.stat(journal).st_ino == before:
            await asyncio.sleep(0.005)


async def _bulk(lines: str, store: str) -> None:
    source = os.open(lines, os.O_RDONLY)
    try:
        process = await asyncio.create_subprocess_exec(
            *AQUEUE, "enqueue", "-", "--store", store, stdin=source, stdout=asyncio.subprocess.DEVNULL
        )
        if await process.wait():
            raise RuntimeError("aqueue enqueue failed")
    finally:
        os.close(source)


def main() -> None:
    """Do the work that is named, and print the longest stall in milliseconds."""
    parser = argparse.ArgumentParser()
    for name in ("work", "store", "lines"):
        parser.add_argument(name)
    parser.add_argument("size", type=int)
    asked = parser.parse_args()
    longest = asyncio.run(_measure(asked.work, asked.store, asked.lines, asked.size))
    sys.stdout.write(f"{longest}\n")


if __name__ == "__main__":
    main()
