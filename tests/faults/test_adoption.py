"""Commands that outlive their pool: the next one finds them by the token of their attempt, takes them over, and
records how they really ended."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aqueue.jobs.job import State

Eventually = Callable[..., Any]


def orphaned(broken: Any, eventually: Eventually, command: str, **fields: Any) -> None:
    """Kill a pool that runs `command` for a job `j`, once that has come as far as making the file `started`."""
    pool = broken.pool()
    broken.enqueue(f"touch started; {command}", id="j", **fields)
    eventually((broken.folder / "started").exists, "the start")
    pool.kill()
    pool.wait()


def test_a_command_that_outlives_its_pool_is_adopted_and_its_true_end_recorded(
    broken: Any, eventually: Eventually
) -> None:
    orphaned(broken, eventually, "echo early; until [ -e go ]; do sleep 0.02; done; echo late; echo no >&2; exit 7")
    broken.pool()
    assert broken.job("j").state is State.PROCESSING
    assert "adopted 1" in broken.log()
    (broken.folder / "go").touch()
    job = broken.ended("j")
    assert (job.exit_code, job.stdout, job.stderr, len(job.history)) == (7, "early\nlate\n", "no\n", 1)


def test_a_command_that_ended_while_no_pool_was_alive_is_not_run_again(broken: Any, eventually: Eventually) -> None:
    orphaned(broken, eventually, "echo ran >>runs; until [ -e go ]; do sleep 0.02; done; echo done; touch over; exit 4")
    (broken.folder / "go").touch()
    eventually(lambda: not broken.processes(), "its end")
    broken.drain()
    job = broken.job("j")
    assert (job.exit_code, job.stdout, len(job.history)) == (4, "done\n", 1)
    assert (broken.folder / "runs").read_text() == "ran\n"


def test_a_child_in_a_session_of_its_own_is_not_mistaken_for_the_command(broken: Any, eventually: Eventually) -> None:
    orphaned(broken, eventually, "setsid sleep 600 & echo ran >>runs; until [ -e go ]; do sleep 0.02; done; exit 6")
    broken.pool()
    assert "adopted 1" in broken.log()
    child = next(process for process in broken.processes() if process.cmdline() == ["sleep", "600"])
    child.kill()
    eventually(lambda: not child.is_running() or child.status() == "zombie", "its end")
    broken.enqueue("true", id="after")
    broken.ended("after")
    assert broken.job("j").state is State.PROCESSING
    (broken.folder / "go").touch()
    assert broken.ended("j").exit_code == 6
    assert (broken.folder / "runs").read_text() == "ran\n"


def test_what_is_left_of_the_time_limit_binds_an_adopted_command(broken: Any, eventually: Eventually) -> None:
    orphaned(broken, eventually, "sleep 60", timeout=1.0)
    broken.pool()
    job = broken.ended("j")
    assert "time limit of 1 s" in (job.error or "")
    latest: Any = job.history[-1]
    assert 0.9 < (latest.finished_at - latest.started_at).total_seconds() < 5


def test_an_adopted_command_can_be_cancelled(broken: Any, eventually: Eventually) -> None:
    orphaned(broken, eventually, "sleep 60")
    broken.pool()
    assert broken.run("cancel", "j")[0] == 0
    assert broken.job("j").state is State.CANCELLED
    assert [process.name() for process in broken.processes() if process.name() in ("sh", "sleep")] == []


def test_where_orphans_are_killed_they_end_before_the_job_runs_again(broken: Any, eventually: Eventually) -> None:
    broken.environ["AQUEUE_ORPHANS"] = "kill"
    orphaned(broken, eventually, "trap '' TERM; echo s >>runs; until [ -e go ]; do sleep 0.02; done; echo e >>runs")
    broken.pool()
    eventually(lambda: (broken.folder / "runs").read_text() == "s\ns\n", "the second run")
    (broken.folder / "go").touch()
    job = broken.ended("j")
    assert job.history[0].interrupted
    assert (job.attempts, job.exit_code) == (1, 0)
    assert (broken.folder / "runs").read_text() == "s\ns\ne\n"


def test_an_attempt_that_neither_runs_nor_left_a_status_is_queued_again_and_costs_no_retry(
    broken: Any, eventually: Eventually
) -> None:
    orphaned(broken, eventually, "[ -e again ] && exit 0; exec sleep 60")
    for process in broken.processes():
        process.send_signal(signal.SIGKILL)
    (broken.folder / "again").touch()
    broken.drain()
    job = broken.job("j")
    assert [attempt.interrupted for attempt in job.history] == [True, False]
    assert (job.state, job.attempts, job.interruptions) == (State.COMPLETED, 1, 1)


def test_a_job_that_kills_its_pool_every_time_goes_to_the_dead_letter_queue_and_says_why(broken: Any) -> None:
    broken.environ["AQUEUE_MAX_INTERRUPTIONS"] = "3"
    broken.enqueue("pool=$(cut -d' ' -f4 /proc/$$/stat); kill -9 $(ps -o ppid= -p $pool) 0", id="j")
    for _ in range(3):
        assert broken.pool(wait=False).wait(30) == -signal.SIGKILL
    broken.drain()
    job = broken.job("j")
    assert (job.state, job.interruptions) == (State.DEAD, 3)
    assert "interrupted 3 times" in (job.error or "")


@pytest.mark.parametrize("count", [1, 8])
def test_a_pool_stopped_with_leave_running_is_replaced_without_an_interruption(
    broken: Any, eventually: Eventually, count: int
) -> None:
    broken.pool("--count", str(count))
    for number in range(count):
        command = f"touch started{number}; until [ -e go ]; do sleep 0.02; done; echo {number}; exit {number}"
        broken.enqueue(command, id=f"n{number}")
    eventually(lambda: len(list(broken.folder.glob("started*"))) == count, "the start")
    assert broken.run("worker", "stop", "--leave-running")[0] == 0
    broken.pool("--count", "1")
    assert f"adopted {count}" in broken.log()
    Path(broken.folder / "go").touch()
    for number in range(count):
        job = broken.ended(f"n{number}")
        assert (job.exit_code, job.stdout, len(job.history)) == (number, f"{number}\n", 1)
