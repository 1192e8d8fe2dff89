"""The wall clock jumps by a day: what waits is neither forgotten nor started at once, and durations stay true."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aqueue.job import State

DAY = 86400


@pytest.fixture
def jump(broken: Any) -> Callable[[float], None]:
    """Sets the wall clock of a pool forward or back by so many seconds."""
    clock: Path = broken.folder / "clock"
    clock.touch()
    broken.pool("--count", "2", fault={"clock": str(clock)})

    def by(seconds: float) -> None:
        fresh = clock.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(clock)

    return by


@pytest.mark.parametrize("days", [1, -1])
def test_a_retry_comes_after_its_wait_and_no_sooner(
    broken: Any, eventually: Callable[..., Any], jump: Callable[[float], None], days: int
) -> None:
    broken.enqueue("date +%s.%N >>runs; exit 1", id="j", max_retries=2, backoff_base=1.0)
    eventually((broken.folder / "runs").exists, "the first attempt")
    eventually(lambda: broken.job("j").state is State.FAILED, "its end")
    jump(days * DAY)
    assert broken.ended("j").state is State.DEAD
    runs = [float(line) for line in (broken.folder / "runs").read_text().split()]
    waits = [later - earlier for earlier, later in itertools.pairwise(runs)]
    assert all(0.95 < wait < 3 for wait in waits), waits


@pytest.mark.parametrize("days", [1, -1])
def test_a_delayed_job_starts_after_its_delay(broken: Any, jump: Callable[[float], None], days: int) -> None:
    began = time.monotonic()
    broken.enqueue("true", id="j", delay=1.0)
    jump(days * DAY)
    assert broken.ended("j").state is State.COMPLETED
    assert 0.95 < time.monotonic() - began < 4


@pytest.mark.parametrize("days", [1, -1])
def test_a_time_limit_is_as_long_as_it_says(
    broken: Any, eventually: Callable[..., Any], jump: Callable[[float], None], days: int
) -> None:
    broken.enqueue("touch started; exec sleep 30", id="j", timeout=1.0)
    eventually((broken.folder / "started").exists, "the start")
    began = time.monotonic()
    jump(days * DAY)
    job = broken.ended("j")
    assert "time limit" in (job.error or "")
    assert 0.8 < time.monotonic() - began < 4
    latest = job.history[0]
    assert latest.finished_at >= latest.started_at


def test_what_waits_is_not_forgotten_by_a_pool_that_starts_after_the_jump(
    broken: Any, jump: Callable[[float], None]
) -> None:
    jump(DAY)
    broken.enqueue("exit 1", id="j", max_retries=1, backoff_base=1.0)
    assert broken.ended("j").state is State.DEAD
