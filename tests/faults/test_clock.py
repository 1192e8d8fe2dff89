"""The wall clock jumps by a day: what waits is neither forgotten nor started at once, and durations stay true. The
machine sleeps for a day: what became due meanwhile starts when it wakes, and nothing else does."""

import asyncio
import itertools
import os
import select
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aqueue.jobs.job import State, utc_now
from aqueue.store.journal.pool_store import JournalPoolStore
from aqueue.system import clock

DAY = 86400


@pytest.fixture
def jump(broken: Any) -> Callable[..., None]:
    """Sets the wall clock of a pool forward or back by so many seconds, or lets its machine sleep for so long."""
    wrong: Path = broken.folder / "clock"
    wrong.write_text("0 0")
    os.mkfifo(f"{wrong}.changed")
    broken.pool("--count", "2", fault={"clock": str(wrong)})

    def by(seconds: float, *, asleep: bool = False) -> None:
        fresh = wrong.with_suffix(".new")
        fresh.write_text(f"{seconds} {seconds if asleep else 0}")
        fresh.replace(wrong)
        Path(f"{wrong}.changed").write_bytes(b"!")

    return by


@pytest.mark.slow
@pytest.mark.parametrize("days", [1, -1])
def test_a_retry_comes_after_its_wait_and_no_sooner(
    broken: Any, eventually: Callable[..., Any], jump: Callable[..., None], days: int
) -> None:
    broken.enqueue("date +%s.%N >>runs; exit 1", id="j", max_retries=2, backoff_base=1.0)
    eventually((broken.folder / "runs").exists, "the first attempt")
    eventually(lambda: broken.job("j").state is State.FAILED, "its end")
    jump(days * DAY)
    assert broken.ended("j").state is State.DEAD
    runs = [float(line) for line in (broken.folder / "runs").read_text().split()]
    waits = [later - earlier for earlier, later in itertools.pairwise(runs)]
    assert all(0.95 < wait < 3 for wait in waits), waits


@pytest.mark.slow
@pytest.mark.parametrize("days", [1, -1])
def test_a_delayed_job_starts_after_its_delay(broken: Any, jump: Callable[..., None], days: int) -> None:
    began = time.monotonic()
    broken.enqueue("true", id="j", delay=1.0)
    jump(days * DAY)
    assert broken.ended("j").state is State.COMPLETED
    assert 0.95 < time.monotonic() - began < 4


@pytest.mark.slow
@pytest.mark.parametrize("days", [1, -1])
def test_a_time_limit_is_as_long_as_it_says(
    broken: Any, eventually: Callable[..., Any], jump: Callable[..., None], days: int
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
    broken: Any, jump: Callable[..., None]
) -> None:
    jump(DAY)
    broken.enqueue("exit 1", id="j", max_retries=1, backoff_base=1.0)
    assert broken.ended("j").state is State.DEAD


def test_a_time_that_was_asked_for_has_come_when_the_clock_is_set_to_it(broken: Any, jump: Callable[..., None]) -> None:
    broken.enqueue("true", id="j", run_at=utc_now() + timedelta(seconds=DAY - 60))
    broken.enqueue("true", id="later", run_at=utc_now() + timedelta(seconds=DAY + 600))
    jump(DAY)
    assert broken.ended("j").state is State.COMPLETED
    assert broken.job("later").state is State.PENDING


def test_a_time_that_was_asked_for_comes_no_sooner_when_the_clock_is_set_back(
    broken: Any, jump: Callable[..., None]
) -> None:
    broken.enqueue("true", id="j", run_at=utc_now() + timedelta(seconds=1))
    jump(-DAY)
    broken.enqueue("true", id="meanwhile", delay=1.5)
    broken.ended("meanwhile")
    assert broken.job("j").state is State.PENDING
    jump(0)
    assert broken.ended("j").state is State.COMPLETED


def test_what_became_due_while_the_machine_slept_starts_when_it_wakes(
    broken: Any, eventually: Callable[..., Any], jump: Callable[..., None]
) -> None:
    broken.enqueue("date +%s >>runs; exit 1", id="retry", max_retries=1, backoff_base=3000.0)
    broken.enqueue("true", id="delay", delay=DAY - 60)
    broken.enqueue("true", id="time", run_at=utc_now() + timedelta(seconds=DAY - 60))
    broken.enqueue("true", id="later", delay=DAY + 600)
    eventually(lambda: broken.job("retry").state is State.FAILED, "the first attempt")
    jump(DAY, asleep=True)
    assert [broken.ended(name).state for name in ("retry", "delay", "time")] == ["dead", "completed", "completed"]
    assert broken.job("later").state is State.PENDING


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of changed clocks")
def test_clocks_that_nobody_changes_are_watched_in_silence_until_the_store_is_closed(
    tmp_path: Path, run_clean: Callable[..., None], open_files: Callable[[], dict[int, str]]
) -> None:
    async def idle() -> None:
        async with JournalPoolStore(tmp_path / "store") as store:
            await store.wait_drained()
            (fd,) = (fd for fd, what in open_files().items() if "timerfd" in what)
            assert select.select([fd], [], [], 0)[0] == []
            clock.rearm_clock_watch(fd)
            assert select.select([fd], [], [], 0.1)[0] == []
            armed = Path(f"/proc/self/fdinfo/{fd}").read_text()
            assert "clockid: 0\n" in armed
            assert "settime flags: 03\n" in armed
            assert "it_value: (0, 0)" not in armed
            assert asyncio.get_running_loop().remove_reader(fd)

    run_clean(idle())
