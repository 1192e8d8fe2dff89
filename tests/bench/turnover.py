"""The round trips of a pool and nothing else: workers that claim jobs and settle them without running them.

As a program it says `ready` when it serves, begins when it reads a line, and prints after how many seconds each tenth
of its jobs was claimed and settled.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from aqueue.jobs.job import Outcome
from aqueue.settings.config import Config
from aqueue.store.open import open_pool_store

_DONE = Outcome(exit_code=0, pid=4711)
_PARTS = 10


def turned_over(url: str, jobs: int, *, pools: int = 1, workers: int = 4) -> list[list[float]]:
    """What so many pools at once print, with `jobs` for each of them."""
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", __name__, url, str(jobs), str(workers)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    cwd=Path(__file__).parents[2],
                )
            )
            for _ in range(pools)
        ]
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError("a pool did not begin to serve")
        return [msgspec.json.decode(process.communicate()[0], type=list[float]) for process in _begun(running)]


def _begun(running: "list[subprocess.Popen[bytes]]") -> "list[subprocess.Popen[bytes]]":
    for process in running:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    return running


async def _serve(url: str, jobs: int, workers: int) -> list[float]:
    times: list[float] = []
    with tempfile.TemporaryDirectory(prefix="aqueue-bench-") as folder:
        store = open_pool_store(Config(store=url, directory=folder, workers=workers))
        async with store:
            await asyncio.sleep(0.5)  # its start is over
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            sys.stdin.readline()
            began = time.perf_counter()
            left = iter(range(jobs - 1, -1, -1))

            async def work(slot: int) -> None:
                for still in left:
                    await store.settle(await store.claim(slot), _DONE)
                    if still % (jobs // _PARTS) == 0:
                        times.append(time.perf_counter() - began)

            async with asyncio.TaskGroup() as tasks:
                for slot in range(1, workers + 1):
                    tasks.create_task(work(slot))
            await store.flush()
            times[-1] = time.perf_counter() - began
    return times


def main() -> None:
    """Claim and settle."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("jobs", type=int)
    parser.add_argument("workers", type=int)
    asked = parser.parse_args()
    sys.stdout.write(f"{asyncio.run(_serve(asked.url, asked.jobs, asked.workers))}\n")


if __name__ == "__main__":
    main()
