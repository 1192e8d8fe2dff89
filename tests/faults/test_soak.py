"""Random faults of all kinds for about ten minutes: `pytest -m soak tests/faults`.

SOAK_SEED=n repeats the choices of a run, SOAK_SECONDS=n makes it shorter.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aqueue.errors import AqueueError, StoreError
from aqueue.jobs.job import Job, State

CALLS = ["write", "fdatasync", "replace", "fsync", "ftruncate"]
KILLS = ["kill before", "kill after"]


class Soak:
    """Jobs whose runs and results can be told from outside, and pools with a fault each."""

    def __init__(self, broken: Any, eventually: Callable[..., Any], chance: random.Random) -> None:
        self.broken = broken
        self.eventually = eventually
        self.chance = chance
        self.acknowledged: dict[str, int] = {}
        self.asked = 0
        self.outage: Path = broken.folder / "outage"

    def enqueue(self) -> None:
        self.asked += 1
        name, status = f"s{self.asked}", self.chance.choice([0, 0, 1, 7])
        seconds = 1.5 if self.chance.random() < 0.03 else self.chance.choice([0, 0.01, 0.1])
        command = f"echo s >>{name}.run; echo {name}; sleep {seconds}; echo e >>{name}.run; exit {status}"
        try:
            self.broken.enqueue(command, id=name)
        except (AqueueError, OSError):
            return
        self.acknowledged[name] = status

    def fault(self) -> dict[str, Any]:
        """A fault for the next pool."""
        early = {"aqueue.store.journal.group_commit.COMPACT_AT": self.chance.choice([0, 50, 5000])}
        call, file = self.chance.choice(CALLS), self.chance.choice(["jobs.jsonl", "jobs.new", "jobs."])
        kind = self.chance.choice(["none", "kill", "halfway", "fail"])
        if kind == "kill":
            return {"set": early, "call": call, "file": file, "do": self.chance.choice(KILLS), "nth": self.nth()}
        if kind == "halfway":
            return {"set": early, "call": "write", "file": file, "do": "kill halfway", "nth": self.nth()}
        if kind == "fail":
            error = self.chance.choice(["ENOSPC", "EIO", "EDQUOT"])
            return {
                "set": early,
                "call": self.chance.choice(["write", "fdatasync", "replace"]),
                "file": file,
                "do": "fail",
                "error": error,
                "until_gone": str(self.outage),
            }
        return {"set": early}

    def nth(self) -> int:
        return self.chance.randint(1, 40)

    def round(self) -> None:
        """One pool's life, with its fault and its end."""
        pool = self.broken.pool("--count", str(self.chance.randint(1, 6)), fault=self.fault(), wait=False)
        for _ in range(self.chance.randint(5, 40)):
            if self.chance.random() < 0.1:
                self.outage.touch() if self.chance.random() < 0.5 else self.outage.unlink(missing_ok=True)
            self.enqueue()
        self.outage.unlink(missing_ok=True)
        end = self.chance.choice([signal.SIGKILL, signal.SIGKILL, None])
        if end is None:
            self.eventually(lambda: "stop with Ctrl-C" in self.broken.log() or pool.poll() is not None, "the pool")
            self.broken.run("worker", "stop", "--leave-running")
        else:
            pool.send_signal(end)
        try:
            pool.wait(60)
        except subprocess.TimeoutExpired:
            pytest.fail("the pool did not end")

    def check(self) -> None:
        """What was acknowledged has ended truly, and nothing ran twice."""
        self.broken.drain()
        jobs: dict[str, Job] = self.broken.jobs()
        assert set(self.acknowledged) <= set(jobs)
        for name, job in jobs.items():
            assert job.state in (State.COMPLETED, State.DEAD), job
            assert job.stdout == f"{name}\n", job
            assert (self.broken.folder / f"{name}.run").read_text() == "s\ne\n", job
            if name in self.acknowledged:
                assert job.exit_code == self.acknowledged[name], job
        assert self.broken.left_processing() == []


@pytest.mark.soak
@pytest.mark.timeout(float(os.environ.get("SOAK_SECONDS", 600)) + 300)
def test_random_faults_lose_nothing_and_run_nothing_twice(
    broken: Any, eventually: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("SOAK_SEED", random.randrange(10**6)))
    seconds = float(os.environ.get("SOAK_SECONDS", 600))
    with capsys.disabled():
        sys.stdout.write(f"\nSOAK_SEED={seed}\n")
    soak = Soak(broken, eventually, random.Random(seed))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            soak.round()
        except StoreError:
            continue
        if soak.chance.random() < 0.05:
            soak.check()
    soak.check()
