"""`kill -9` of the pool, at every step of the store and at random moments.

Every job leaves its start and end in a file of its own, so that a second run, or two at once, would show. Commands
outlive their pool, so each job runs exactly once, whatever happens to pools.
"""

import random
import shutil
import signal
from pathlib import Path

import pytest

from aqueue.errors import AqueueError
from aqueue.jobs.job import Job, State
from tests.faults.conftest import Broken

STEPS = [
    (call, nth, do)
    for nth in (2, 9, 16)
    for call, do in (
        ("write", "kill before"),
        ("write", "kill halfway"),
        ("write", "kill after"),
        ("fdatasync", "kill before"),
        ("fdatasync", "kill after"),
    )
]
COMPACTION = [
    ("write", 1, "kill before"),
    ("write", 2, "kill halfway"),
    ("fdatasync", 1, "kill before"),
    ("fdatasync", 2, "kill after"),
    ("replace", 1, "kill before"),
    ("replace", 1, "kill after"),
]
FORMATS = Path(__file__).parents[1] / "store" / "formats"
EARLY = {"aqueue.store.journal.group_commit.COMPACT_AT": 10}
"""Compaction from ten lines on."""


class Workload:
    """Jobs whose runs and results can be told from outside, and which of them were acknowledged."""

    def __init__(self, broken: Broken) -> None:
        self.broken = broken
        self.acknowledged: dict[str, int] = {}
        self.asked = 0

    def command(self, name: str, status: int, seconds: float) -> str:
        return f"echo s >>{name}.run; echo {name}; sleep {seconds}; echo e >>{name}.run; echo {name} >&2; exit {status}"

    def enqueue(self, seconds: float = 0.01) -> bool:
        """Queue one more job; False if no pool acknowledged it."""
        self.asked += 1
        name, status = f"w{self.asked}", self.asked % 3
        try:
            self.broken.enqueue(self.command(name, status, seconds), id=name)
        except AqueueError:
            return False
        self.acknowledged[name] = status
        return True

    def check(self) -> None:
        """Every acknowledged job has ended with its true result, and ran exactly once; no other job ran more."""
        jobs: dict[str, Job] = self.broken.jobs()
        assert set(self.acknowledged) <= set(jobs)
        for name, job in jobs.items():
            status = int(name[1:]) % 3
            assert (job.state, job.exit_code) == (State.DEAD if status else State.COMPLETED, status), job
            assert (job.stdout, job.stderr) == (f"{name}\n", f"{name}\n"), job
            assert (self.broken.folder / f"{name}.run").read_text() == "s\ne\n", job
            assert job.attempts == 1


@pytest.fixture
def workload(broken: Broken) -> Workload:
    return Workload(broken)


@pytest.mark.slow
@pytest.mark.parametrize(("call", "nth", "do"), STEPS)
def test_a_pool_killed_while_it_writes_loses_and_repeats_nothing(
    broken: Broken, workload: Workload, call: str, nth: int, do: str
) -> None:
    pool = broken.pool("--count", "2", fault={"call": call, "file": "jobs.jsonl", "nth": nth, "do": do})
    while pool.poll() is None and workload.asked < 40:
        workload.enqueue()
    assert pool.wait(30) == -signal.SIGKILL
    broken.drain()
    workload.check()


@pytest.mark.slow
@pytest.mark.parametrize(("call", "nth", "do"), COMPACTION)
def test_a_pool_killed_while_it_compacts_loses_and_repeats_nothing(
    broken: Broken, workload: Workload, call: str, nth: int, do: str
) -> None:
    fault = {"call": call, "file": "jobs.new", "nth": nth, "do": do, "set": EARLY}
    pool = broken.pool("--count", "2", fault=fault)
    while pool.poll() is None and workload.asked < 80:
        workload.enqueue(seconds=0)
    assert pool.wait(30) == -signal.SIGKILL
    broken.drain()
    workload.check()


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("call", "nth", "do"), COMPACTION)
def test_a_pool_killed_while_it_rewrites_an_old_journal_loses_nothing(
    broken: Broken, workload: Workload, version: int, call: str, nth: int, do: str
) -> None:
    broken.store.mkdir(mode=0o700)
    shutil.copy(FORMATS / f"format-{version}.jsonl", broken.store / "jobs.jsonl")
    before = {job_id: (job.history, job.stdout) for job_id, job in broken.jobs().items()}
    pool = broken.pool("--queue", "none", fault={"call": call, "file": "jobs.new", "nth": nth, "do": do})
    while pool.poll() is None:
        workload.enqueue()
    assert pool.wait(30) == -signal.SIGKILL
    broken.enqueue("true", id="after", delay=3600)
    after = broken.jobs()
    assert before.items() <= {job_id: (job.history, job.stdout) for job_id, job in after.items()}.items()
    assert {"after", *workload.acknowledged} <= after.keys()


def test_a_pool_killed_after_it_read_an_output_still_has_it_in_the_record(broken: Broken, workload: Workload) -> None:
    """The third write is the end of the first job: added, claimed, settled."""
    pool = broken.pool("--count", "1", fault={"call": "write", "file": "jobs.jsonl", "nth": 4, "do": "kill before"})
    workload.enqueue()
    pool.wait(30)
    broken.drain()
    workload.check()


@pytest.mark.slow
def test_pools_killed_at_random_moments_lose_and_repeat_nothing(broken: Broken, workload: Workload) -> None:
    chance = random.Random(20)
    for number in range(60):
        workload.enqueue(seconds=2.0 if number % 20 == 0 else 0.05)
    for _ in range(20):
        pool = broken.pool("--count", "4", wait=False)
        try:
            pool.wait(chance.uniform(0.15, 0.5))
        except Exception:  # the moment has come
            pool.kill()
            pool.wait()
        if chance.random() < 0.5:
            workload.enqueue(seconds=0.05)
    broken.drain()
    workload.check()
    assert broken.left_processing() == []
