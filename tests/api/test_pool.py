"""Workers over a store: run, retry, cancel, drain, stop, and take over what an earlier pool left."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from msgspec.structs import replace

from aqueue import InvalidRequest, Job, JobSpec, Pool, PoolGone, PoolRunning, State, UnknownJob
from aqueue.attempts.orphans import group_members
from aqueue.settings.config import Config
from tests.conftest import PATIENCE, Pipe, StartPool

T = TypeVar("T")


async def soon(step: Awaitable[T]) -> T:
    return await asyncio.wait_for(step, PATIENCE)


async def run(pool: Pool, command: str, **fields: object) -> Job:
    job = await pool.enqueue(command, **fields)  # type: ignore[arg-type]
    return await soon(pool.wait(job.id))


async def until(pool: Pool, name: str, state: State) -> Job:
    """The job when it is in this state."""
    events = pool.events()
    job = await pool.get(name)
    if job.state is state:
        return job
    async with asyncio.timeout(PATIENCE):
        async for job in events:
            if job.id == name and job.state is state:
                return job
    raise AssertionError(f"{name} never was {state}")


# Running


async def test_a_command_runs_and_its_job_tells_how_it_ended(config: Config) -> None:
    async with Pool(config=config) as pool:
        job = await run(pool, "echo hello; echo trouble >&2; exit 3", id="a")
    assert (job.state, job.exit_code, job.signal, job.error) == (State.DEAD, 3, None, None)
    assert (job.stdout, job.stderr) == ("hello\n", "trouble\n")
    assert job.history[0].pid is not None
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.created_at <= job.started_at <= job.finished_at


async def test_a_command_runs_where_it_was_enqueued_from_or_where_it_was_told(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    async with Pool(config=config) as pool:
        here = await pool.enqueue("pwd")
        monkeypatch.chdir("/")
        assert (await soon(pool.wait(here.id))).stdout == f"{tmp_path}/sub\n"
        assert (await run(pool, "pwd", cwd=tmp_path)).stdout == f"{tmp_path}\n"


async def test_no_more_jobs_run_at_once_than_there_are_workers(config: Config, tmp_path: Path) -> None:
    running = most = 0
    async with Pool(config=replace(config, workers=3)) as pool:
        events = pool.events()
        await pool.enqueue_many(["sleep 0.05"] * 12)
        async with asyncio.timeout(PATIENCE):
            ended = 0
            async for job in events:
                running += {State.PROCESSING: 1, State.COMPLETED: -1}.get(job.state, 0)
                ended += job.state is State.COMPLETED
                most = max(most, running)
                if ended == 12:
                    break
    assert most == 3


async def test_a_directory_that_is_gone_fails_the_attempt_and_the_pool_lives_on(config: Config, tmp_path: Path) -> None:
    async with Pool(config=config) as pool:
        job = await run(pool, "true", cwd=tmp_path / "gone")
        assert (job.state, job.error) == (
            State.DEAD,
            f"cannot start: No such file or directory: {tmp_path / 'gone'}",
        )
        assert (await run(pool, "echo alive")).stdout == "alive\n"


async def test_a_command_killed_by_somebody_fails_with_that_signal(config: Config, ready: Pipe) -> None:
    async with Pool(config=config) as pool:
        job = await pool.enqueue(f"echo $$ > {ready.path}; sleep 60")
        os.kill(int(await ready.read()), signal.SIGKILL)
        job = await soon(pool.wait(job.id))
        assert (job.state, job.exit_code, job.signal) == (State.DEAD, None, signal.SIGKILL)


async def test_a_child_in_the_background_does_not_hold_the_worker(config: Config) -> None:
    async with Pool(config=replace(config, workers=1)) as pool:
        first = await run(pool, "sleep 8 & echo $!")
        assert (await run(pool, "echo next")).stdout == "next\n"
        child = psutil.Process(int(first.stdout or ""))
        assert child.name() == "sleep"
        child.kill()


async def test_output_of_any_size_is_kept_in_a_file(config: Config, store: Path) -> None:
    async with Pool(config=config) as pool:
        job = await run(pool, "head -c 300000 /dev/zero | tr '\\0' x")
        assert job.stdout == "x" * config.output_limit
        assert (store / "output" / f"{job.seq}-1.out").stat().st_size == 300_000
        await pool.remove(job.id)
        assert list((store / "output").iterdir()) == []


async def test_short_output_of_a_success_leaves_no_file(config: Config, store: Path) -> None:
    async with Pool(config=config) as pool:
        assert (await run(pool, "echo hi")).stdout == "hi\n"
    assert list((store / "output").iterdir()) == []


async def test_a_job_that_runs_can_be_looked_at(config: Config, ready: Pipe) -> None:
    async with Pool(config=config) as pool:
        await pool.enqueue(f"echo so far; echo $$ > {ready.path}; sleep 60", id="a")
        await ready.read()
        job = await pool.get("a")
        assert (job.state, job.stdout) == (State.PROCESSING, "so far\n")
        assert job.history[0].pid is not None
        assert psutil.pid_exists(job.history[0].pid)
        (slot,) = (await pool.status()).busy
        assert (slot.job.id, slot.worker in (1, 2)) == ("a", True)
        await pool.cancel("a")


async def test_jobs_start_by_priority_then_by_age(config: Config) -> None:
    async with Pool(config=config, workers=1) as pool:
        order: list[str] = []
        events = pool.events()
        await pool.enqueue_many([JobSpec(command="true", id=f"j{p}", priority=p) for p in (0, 5, -5, 9)])
        await soon(pool.drain())
        await pool.stop()
        async for job in events:
            if job.state is State.PROCESSING:
                order.append(job.id)
    assert order == ["j9", "j5", "j0", "j-5"]


async def test_only_the_queues_asked_for_are_served(config: Config) -> None:
    async with Pool(config=config, queues=["x"]) as pool:
        await pool.enqueue("true", id="other", queue="y")
        assert (await run(pool, "echo $AQUEUE_QUEUE", queue="x")).stdout == "x\n"
        await soon(pool.drain())
        assert (await pool.get("other")).state is State.PENDING


# Retries and times


async def test_a_failure_is_retried_after_exactly_its_backoff_and_then_dead(config: Config) -> None:
    async with Pool(config=config) as pool:
        job = await run(pool, "echo $AQUEUE_ATTEMPT; exit $AQUEUE_ATTEMPT", max_retries=2, backoff_base=0.4)
    assert (job.state, job.attempts, job.stdout) == (State.DEAD, 3, "3\n")
    assert [attempt.exit_code for attempt in job.history] == [1, 2, 3]
    for retry, (before, after) in enumerate(zip(job.history, job.history[1:], strict=False), 1):
        assert before.finished_at is not None
        wait = (after.started_at - before.finished_at).total_seconds()
        assert 0.4**retry <= wait < 0.4**retry + 0.2


async def test_a_failure_that_recovers_is_completed(config: Config) -> None:
    async with Pool(config=config) as pool:
        job = await run(pool, "test $AQUEUE_ATTEMPT = 3", max_retries=5, backoff_base=0)
    assert (job.state, job.attempts) == (State.COMPLETED, 3)


async def test_a_delayed_job_starts_when_its_time_has_come(config: Config) -> None:
    async with Pool(config=config) as pool:
        run_at = datetime.now(UTC) + timedelta(seconds=0.3)
        jobs = await asyncio.gather(run(pool, "true", delay=0.3), run(pool, "true", run_at=run_at))
        for job in jobs:
            assert job.started_at is not None
            assert 0 <= (job.started_at - job.due_at).total_seconds() < 0.2
        past = await run(pool, "true", run_at=datetime(2020, 1, 1, tzinfo=UTC))
        assert past.state is State.COMPLETED


async def test_a_time_limit_fails_the_attempt_and_leaves_nothing_running(config: Config) -> None:
    async with Pool(config=config) as pool:
        command = "trap '' TERM; sh -c 'trap \"\" TERM; sleep 60' & wait"
        job = await run(pool, command, timeout=0.2, max_retries=1, backoff_base=0)
    assert (job.state, job.attempts, job.error) == (State.DEAD, 2, "time limit of 0.2 s exceeded")
    assert [group_members(attempt.pid or 0) for attempt in job.history] == [[], []]


# Cancelling


async def test_a_running_job_is_cancelled_with_all_its_processes(config: Config, ready: Pipe) -> None:
    async with Pool(config=config) as pool:
        await pool.enqueue(f"sleep 60 & echo out; echo > {ready.path}; wait", id="a", max_retries=9)
        await ready.read()
        (job,) = await soon(pool.cancel("a"))
        assert (job.state, job.error, job.stdout, job.attempts) == (State.CANCELLED, "cancelled", "out\n", 0)
        assert group_members(job.history[0].pid or 0) == []
        assert await pool.get("a") == job


async def test_a_job_is_cancelled_right_after_it_was_enqueued(config: Config) -> None:
    async with Pool(config=config) as pool:
        for number in range(10):
            await pool.enqueue("sleep 60", id=f"j{number}")
            (job,) = await soon(pool.cancel(f"j{number}"))
            assert job.state is State.CANCELLED


async def test_a_job_that_waits_for_its_retry_is_cancelled(config: Config) -> None:
    async with Pool(config=config) as pool:
        await pool.enqueue("exit 1", id="a", max_retries=1, backoff_base=1000)
        await until(pool, "a", State.FAILED)
        assert (await pool.cancel("a"))[0].state is State.CANCELLED
        await soon(pool.drain())


async def test_a_cancel_during_the_grace_of_a_time_limit_still_cancels(config: Config, ready: Pipe) -> None:
    async with Pool(config=config) as pool:
        command = f"trap 'echo > {ready.path}' TERM; while :; do sleep 0.05; done"
        await pool.enqueue(command, id="a", timeout=0.1, max_retries=5, backoff_base=1000)
        await ready.read()
        (job,) = await soon(pool.cancel("a"))
        assert job.state is State.CANCELLED


async def test_what_has_ended_or_is_unknown_is_not_cancelled(config: Config) -> None:
    async with Pool(config=config) as pool:
        await run(pool, "true", id="a")
        with pytest.raises(InvalidRequest, match="a is completed"):
            await pool.cancel("a")
        await pool.enqueue("true", id="b", delay=60)
        with pytest.raises(UnknownJob):
            await pool.cancel("b", "nobody")
        assert (await pool.get("b")).state is State.PENDING


async def test_a_dead_job_that_is_retried_runs_at_once(config: Config, tmp_path: Path) -> None:
    async with Pool(config=config) as pool:
        await run(pool, f"test -e {tmp_path}/there", id="a")
        (tmp_path / "there").touch()
        assert (await pool.retry("a"))[0].state is State.PENDING
        job = await soon(pool.wait("a"))
    assert (job.state, job.attempts, len(job.history)) == (State.COMPLETED, 1, 2)


# Draining


async def test_a_drain_waits_for_retries_and_not_for_what_is_scheduled(config: Config) -> None:
    async with Pool(config=config) as pool:
        await pool.enqueue("true", id="later", delay=3600)
        await pool.enqueue("exit 1", id="a", max_retries=1, backoff_base=0.3)
        await soon(pool.drain())
        assert (await pool.get("a")).attempts == 2
        assert (await pool.get("later")).state is State.PENDING


async def test_a_drain_of_an_empty_store_is_over_at_once(config: Config) -> None:
    async with Pool(config=config) as pool:
        await soon(pool.drain())


async def test_a_drain_ends_when_the_last_job_is_removed(config: Config) -> None:
    async with Pool(config=config) as pool:
        await pool.enqueue("exit 1", id="a", max_retries=1, backoff_base=1000)
        await until(pool, "a", State.FAILED)
        draining = asyncio.create_task(pool.drain())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not draining.done()
        await pool.remove("a")
        await asyncio.wait_for(draining, 5)


async def test_a_drain_ends_when_the_pool_stops(config: Config) -> None:
    async with Pool(config=config) as pool:
        await pool.enqueue("sleep 60")
        draining = asyncio.create_task(pool.drain())
        for _ in range(10):
            await asyncio.sleep(0)
        await soon(pool.stop(now=True))
        await soon(draining)


# Stopping


async def test_a_stop_lets_what_runs_finish_and_starts_nothing_more(config: Config, ready: Pipe, go: Pipe) -> None:
    async with Pool(config=config, workers=1) as pool:
        await pool.enqueue(f"echo > {ready.path}; read x < {go.path}; echo $x; exit 0", id="a")
        await pool.enqueue("true", id="b")
        await ready.read()
        stopping = asyncio.create_task(pool.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        go.write()
        await soon(stopping)
    async with Pool(config=config, queues=["none"]) as pool:
        assert {job.id: job.state async for job in pool.jobs()} == {"a": State.COMPLETED, "b": State.PENDING}


async def test_what_a_stop_interrupts_is_pending_again_and_has_lost_no_retry(config: Config, ready: Pipe) -> None:
    async with Pool(config=replace(config, grace=0.1)) as pool:
        await pool.enqueue(f"echo > {ready.path}; sleep 60", id="a", max_retries=0)
        await ready.read()
        await soon(pool.stop())
    async with Pool(config=config, queues=["none"]) as pool:
        job = await pool.get("a")
        assert (job.state, job.attempts, job.interruptions) == (State.PENDING, 0, 1)
        assert job.history[0].interrupted
        assert group_members(job.history[0].pid or 0) == []


async def test_a_second_request_to_stop_skips_the_grace(config: Config, ready: Pipe) -> None:
    async with Pool(config=replace(config, grace=3600)) as pool:
        await pool.enqueue(f"echo > {ready.path}; sleep 60", id="a")
        await ready.read()
        pool.request_stop()
        pool.request_stop(now=True)
        await soon(pool.stopped())


async def test_a_cancel_that_comes_too_late_for_a_stop_does_not_hold_it(config: Config, ready: Pipe) -> None:
    async with Pool(config=config) as pool:
        command = f"trap 'echo > {ready.path}' TERM; echo > {ready.path}; while :; do sleep 0.05; done"
        await pool.enqueue(command, id="a")
        await ready.read()
        pool.request_stop(now=True)
        await ready.read()
        cancelling = asyncio.create_task(pool.cancel("a"))
        await asyncio.sleep(0)
        await soon(pool.stopped())
        (result,) = await soon(asyncio.gather(cancelling, return_exceptions=True))
        assert isinstance(result, list | PoolGone)


async def test_who_waits_for_a_job_is_told_when_the_pool_stops(config: Config) -> None:
    async with Pool(config=config) as pool:
        await pool.enqueue("true", id="a", delay=3600)
        waiting = asyncio.create_task(pool.wait("a"))
        await asyncio.sleep(0)
        await soon(pool.stop())
        with pytest.raises(PoolGone):
            await asyncio.wait_for(waiting, 5)


async def test_a_command_that_kills_its_pool_every_time_is_dead_in_the_end(config: Config, ready: Pipe) -> None:
    config = replace(config, max_interruptions=2, grace=0)
    for _ in range(2):
        async with Pool(config=config) as pool:
            if not [job async for job in pool.jobs()]:
                await pool.enqueue(f"echo > {ready.path}; sleep 60", id="a")
            await ready.read()
    async with Pool(config=config) as pool:
        job = await pool.get("a")
        assert (job.state, job.attempts) == (State.DEAD, 0)


# One pool after the other


async def test_a_command_left_running_is_adopted_and_its_true_end_recorded(
    config: Config, ready: Pipe, go: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aqueue")
    async with Pool(config=config) as pool:
        await pool.enqueue(f"echo one; echo > {ready.path}; read x < {go.path}; echo $x; echo two >&2; exit 7", id="a")
        await ready.read()
        await soon(pool.stop(leave_running=True))
    async with Pool(config=config) as pool:
        assert "adopted 1 running command of an earlier pool" in caplog.messages
        job = await pool.get("a")
        assert (job.state, job.stdout, len(job.history)) == (State.PROCESSING, "one\n", 1)
        go.write()
        job = await soon(pool.wait("a"))
    assert (job.state, job.exit_code, job.stdout, job.stderr) == (State.DEAD, 7, "one\ngo\n", "two\n")
    assert (job.attempts, job.interruptions) == (1, 0)


async def test_a_command_that_ended_while_no_pool_ran_has_its_true_end(config: Config, ready: Pipe, go: Pipe) -> None:
    async with Pool(config=config) as pool:
        await pool.enqueue(f"echo $PPID > {ready.path}; read x < {go.path}; echo $x; echo two; exit 9", id="a")
        shell = psutil.Process(int(await ready.read()))
        await soon(pool.stop(leave_running=True))
    go.write()
    await asyncio.to_thread(psutil.wait_procs, [shell], PATIENCE)
    async with Pool(config=config) as pool:
        job = await pool.get("a")
    assert (job.state, job.exit_code, job.stdout, job.attempts) == (State.DEAD, 9, "go\ntwo\n", 1)


async def test_an_adopted_command_can_be_cancelled_and_has_its_time_limit(config: Config, ready: Pipe) -> None:
    async with Pool(config=config) as pool:
        await pool.enqueue(f"echo > {ready.path}; sleep 60", id="a")
        await ready.read()
        await pool.enqueue(f"echo > {ready.path}; sleep 60", id="b", timeout=1)
        await ready.read()
        await soon(pool.stop(leave_running=True))
    async with Pool(config=config, workers=1) as pool:
        (job,) = await soon(pool.cancel("a"))
        assert (job.state, group_members(job.history[0].pid or 0)) == (State.CANCELLED, [])
        job = await soon(pool.wait("b"))
        assert (job.state, job.error) == (State.DEAD, "time limit of 1 s exceeded")


async def test_orphans_are_ended_where_that_is_asked_for(config: Config, ready: Pipe) -> None:
    async with Pool(config=config) as pool:
        await pool.enqueue(f"echo $$ > {ready.path}; exec sleep 60", id="a")
        pid = int(await ready.read())
        await soon(pool.stop(leave_running=True))
    assert psutil.pid_exists(pid)
    async with Pool(config=replace(config, orphans="kill"), queues=["none"]) as pool:
        job = await pool.get("a")
        assert (job.state, job.interruptions) == (State.PENDING, 1)
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_second_pool_is_refused_and_told_who_has_the_store(
    config: Config, store: Path, start_pool: StartPool
) -> None:
    other = start_pool()
    with pytest.raises(PoolRunning, match=f"pid {other.pid}\\b.* {store}"):
        await soon(Pool(config=config).__aenter__())


async def test_a_second_pool_in_the_same_process_is_refused_and_the_first_goes_on(config: Config) -> None:
    async with Pool(config=config) as pool:
        with pytest.raises(PoolRunning, match=f"pid {os.getpid()}"):
            await soon(Pool(config=config).__aenter__())
        assert (await run(pool, "echo on")).stdout == "on\n"


async def test_a_killed_pools_jobs_are_taken_up_by_the_next(
    config: Config, start_pool: StartPool, ready: Pipe, go: Pipe
) -> None:
    process = start_pool("--count", "1")
    enqueue = [
        sys.executable,
        "-m",
        "aqueue",
        "enqueue",
        "--id",
        "a",
        f"echo > {ready.path}; read x < {go.path}; echo $x; exit 4",
    ]
    environ = {**os.environ, "AQUEUE_STORE": config.store, "AQUEUE_MAX_RETRIES": "0"}
    await asyncio.to_thread(subprocess.run, enqueue, env=environ, check=True, capture_output=True, timeout=PATIENCE)
    await ready.read()
    process.kill()
    process.communicate(timeout=PATIENCE)
    async with Pool(config=config) as pool:
        assert (await pool.get("a")).state is State.PROCESSING
        go.write()
        job = await soon(pool.wait("a"))
    assert (job.state, job.exit_code, job.stdout, len(job.history)) == (State.DEAD, 4, "go\n", 1)


# While it runs


async def test_more_workers_start_at_once_and_fewer_let_their_jobs_finish(
    config: Config, ready: Pipe, go: Pipe
) -> None:
    async with Pool(config=config, workers=1) as pool:
        command = f"echo > {ready.path}; read x < {go.path}; echo $x"
        await pool.enqueue_many([JobSpec(command=command, id=f"j{number}") for number in range(3)])
        await ready.read()
        assert (await pool.counts())[State.PROCESSING] == 1
        pool.configure({"workers": 3})
        await ready.read()
        await ready.read()
        assert (await pool.counts())[State.PROCESSING] == 3
        pool.configure({"workers": 1})
        assert (await pool.counts())[State.PROCESSING] == 3
        for _ in range(3):
            go.write()
        for number in range(3):
            assert (await soon(pool.wait(f"j{number}"))).state is State.COMPLETED
        await pool.enqueue_many([JobSpec(command=command, id=f"k{number}") for number in range(2)])
        await ready.read()
        assert (await pool.counts())[State.PROCESSING] == 1
        go.write()
        await ready.read()
        go.write()
        await soon(pool.drain())


async def test_a_changed_setting_concerns_new_jobs(config: Config) -> None:
    async with Pool(config=config) as pool:
        old = await pool.enqueue("true", delay=60)
        pool.configure({"max_retries": 7, "backoff_base": 3})
        new = await pool.enqueue("true", delay=60)
        assert (old.max_retries, new.max_retries, new.backoff_base) == (0, 7, 3)
        assert (await pool.get(old.id)).max_retries == 0


async def test_finished_jobs_that_are_old_go_with_their_output_and_dead_ones_stay(config: Config, store: Path) -> None:
    async with Pool(config=config) as pool:
        await run(pool, "head -c 50000 /dev/zero", id="done")
        await run(pool, "exit 1", id="dead")
    async with Pool(config=replace(config, keep=0)) as pool:
        async with asyncio.timeout(PATIENCE):
            while list((store / "output").iterdir()):
                await asyncio.sleep(0.01)  # nothing is said when a file goes
        assert [job.id async for job in pool.jobs()] == ["dead"]
