"""The queue inside an application: a pool and connections, and nothing left behind."""

import asyncio
import os
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

import aqueue
from aqueue import (
    Connection,
    DuplicateJob,
    InvalidJob,
    InvalidRequest,
    Job,
    JobSpec,
    Pool,
    PoolGone,
    PoolRunning,
    Queue,
    State,
    UnknownJob,
)
from aqueue.settings.config import Config
from tests.conftest import PATIENCE, Pipe, RunClean, StartPool, children


async def states(queue: Pool | Connection) -> dict[str, State]:
    return {job.id: job.state async for job in queue.jobs()}


# A pool for as long as a block lasts


def test_a_program_runs_commands_and_nothing_is_left(config: Config, run_clean: RunClean) -> None:
    async def program() -> None:
        async with Pool(config=config) as pool:
            job = await pool.enqueue("echo hello", timeout=30)
            done = await pool.wait(job.id)
            assert (done.state, done.stdout, done.exit_code) == (State.COMPLETED, "hello\n", 0)
            await pool.drain()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not (Path(config.store) / "pool.json").exists()
        assert not (Path(config.store) / "socket").exists()

    run_clean(program())


def test_it_works_under_anyio(config: Config) -> None:
    async def program() -> str | None:
        async with Pool(config=config) as pool:
            async with anyio.create_task_group() as tasks:
                await pool.enqueue_many([JobSpec(command="echo hi", id=f"j{n}") for n in range(3)])
                for number in range(3):
                    tasks.start_soon(pool.wait, f"j{number}")
            return (await pool.get("j0")).stdout

    assert anyio.run(program) == "hi\n"


def test_a_block_left_by_an_error_ends_what_runs_and_lets_the_error_out(
    config: Config, run_clean: RunClean, ready: Pipe
) -> None:
    async def fail() -> None:
        async with Pool(config=config) as pool:
            await pool.enqueue(f"echo > {ready.path}; sleep 60", id="a")
            await ready.read()
            raise ZeroDivisionError

    async def program() -> None:
        with pytest.raises(ZeroDivisionError):
            await fail()
        assert children() == []
        async with aqueue.connect(config=config) as queue:
            job = await queue.get("a")
            assert (job.state, job.attempts, job.interruptions) == (State.PENDING, 0, 1)

    run_clean(program())


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_block_that_is_cancelled_however_often_ends_what_runs_first(
    config: Config, run_clean: RunClean, ready: Pipe, times: int
) -> None:
    async def work() -> None:
        async with Pool(config=config) as pool:
            command = f"trap '' TERM; echo > {ready.path}; while :; do sleep 0.05; done"
            await pool.enqueue(command, id="a", max_retries=0)
            await asyncio.Event().wait()

    async def program() -> None:
        task = asyncio.create_task(work())
        await ready.read()
        for _ in range(times):
            task.cancel()
            await asyncio.wait({task}, timeout=0.02)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() == []
        assert asyncio.all_tasks() == {asyncio.current_task()}
        async with aqueue.connect(config=config) as queue:
            assert await states(queue) == {"a": State.PENDING}

    run_clean(program())


def test_a_block_inside_a_cancel_scope_ends_what_runs_first(config: Config, run_clean: RunClean, ready: Pipe) -> None:
    async def program() -> None:
        with anyio.CancelScope() as scope:
            async with Pool(config=config) as pool:
                await pool.enqueue(f"echo > {ready.path}; sleep 60", id="a")
                await ready.read()
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert children() == []
        assert asyncio.all_tasks() == {asyncio.current_task()}
        async with aqueue.connect(config=config) as queue:
            assert await states(queue) == {"a": State.PENDING}

    run_clean(program())


def test_a_timeout_around_the_block_is_a_timeout(config: Config, run_clean: RunClean) -> None:
    async def be_late() -> None:
        async with asyncio.timeout(0.3), Pool(config=config) as pool:
            await pool.enqueue("sleep 60")
            await pool.drain()

    async def program() -> None:
        with pytest.raises(TimeoutError):
            await be_late()
        assert children() == []

    run_clean(program())


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21])
def test_a_pool_that_is_cancelled_while_it_starts_leaves_nothing(
    config: Config, run_clean: RunClean, turns: int
) -> None:
    async def work() -> None:
        async with Pool(config=config):
            await asyncio.Event().wait()

    async def program() -> None:
        task = asyncio.create_task(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with Pool(config=config):
            pass

    run_clean(program())


def test_several_pools_on_several_stores_live_in_one_process(
    config: Config, run_clean: RunClean, tmp_path: Path
) -> None:
    configs = [replace(config, store=str(tmp_path / name)) for name in ("x", "y", "z")]

    async def program() -> None:
        async with Pool(config=configs[0]) as x, Pool(config=configs[1]) as y, Pool(config=configs[2]) as z:
            for number, pool in enumerate((x, y, z)):
                await pool.enqueue(f"echo {number}", id="same")
            assert [(await pool.wait("same")).stdout for pool in (x, y, z)] == ["0\n", "1\n", "2\n"]
            await y.stop()
            assert (await x.wait((await x.enqueue("echo on")).id)).stdout == "on\n"

    run_clean(program())


async def test_outside_its_block_a_pool_answers_nothing(config: Config) -> None:
    pool = Pool(config=config)
    with pytest.raises(PoolGone):
        await pool.enqueue("true")
    async with pool:
        await pool.stop()
        with pytest.raises(PoolGone):
            await pool.enqueue("true")
    with pytest.raises(PoolGone):
        await pool.get("a")


async def test_a_block_whose_store_cannot_be_opened_says_why(config: Config, store: Path) -> None:
    store.mkdir(mode=0o700)
    (store / "jobs.jsonl").write_text("something else\n")
    with pytest.raises(aqueue.DamagedStore, match="not an aqueue journal"):
        async with Pool(config=config):
            pass
    assert (store / "jobs.jsonl").read_text() == "something else\n"


async def test_a_store_with_a_path_too_long_for_a_socket_works_too(config: Config, tmp_path: Path) -> None:
    config = replace(config, store=str(tmp_path / ("x" * 120)))
    async with Pool(config=config), aqueue.connect(config=config) as queue:
        job = await queue.enqueue("echo far")
        assert (await queue.wait(job.id)).stdout == "far\n"


# Requests


async def test_a_batch_is_all_or_nothing(config: Config) -> None:
    async with Pool(config=config, queues=["none"]) as pool:
        await pool.enqueue("true", id="a")
        for bad in ([JobSpec(command="true", id="b"), JobSpec(command="true", id="a")], ["true", ""], ["true", "a\0"]):
            with pytest.raises((DuplicateJob, InvalidJob)):
                await pool.enqueue_many(bad)
        assert await states(pool) == {"a": State.PENDING}
        assert await pool.enqueue_many([]) == []
        many = await pool.enqueue_many(f"echo {number}" for number in range(2500))
        assert [job.command for job in many] == [f"echo {number}" for number in range(2500)]


async def test_a_job_that_exists_is_fine_where_that_is_said(config: Config) -> None:
    async with Pool(config=config, queues=["none"]) as pool:
        first = await pool.enqueue("echo first", id="a")
        assert await pool.enqueue("echo second", id="a", if_absent=True) == first
        with pytest.raises(DuplicateJob):
            await pool.enqueue("echo third", id="a")
        await pool.remove("a")
        with pytest.raises(DuplicateJob, match="never used again"):
            await pool.enqueue("echo fourth", id="a", if_absent=True)


@pytest.mark.parametrize("kind", ["pool", "connection"])
async def test_every_change_of_state_is_an_event_and_events_end_with_the_pool(config: Config, kind: str) -> None:
    seen: list[Job] = []
    watches = asyncio.Event()

    async def watch(queue: Queue) -> None:
        async for job in queue.events():
            seen.append(job)
            watches.set()

    async with Pool(config=config) as pool, aqueue.connect(config=config) as connection:
        watching = asyncio.create_task(watch(pool if kind == "pool" else connection))
        while not watches.is_set():
            await pool.enqueue("true", delay=3600)
        await pool.enqueue("exit 1", id="a", max_retries=1, backoff_base=0)
        await pool.wait("a")
        await pool.stop()
        await asyncio.wait_for(watching, PATIENCE)
    one = [State.PROCESSING, State.FAILED]
    assert [job.state for job in seen if job.id == "a"] == [State.PENDING, *one, State.PROCESSING, State.DEAD]


async def test_events_of_a_pool_are_seen_from_the_moment_they_are_asked_for(config: Config) -> None:
    pool = Pool(config=config)
    events = pool.events()
    async with pool:
        await pool.enqueue("true", id="a", delay=3600)
    assert [(job.id, job.state) async for job in events] == [("a", State.PENDING)]


async def test_events_of_a_pool_that_dies_are_an_error(config: Config, start_pool: StartPool) -> None:
    process = await asyncio.to_thread(start_pool, "--queue", "none")
    async with aqueue.connect(config=config) as queue, asyncio.timeout(PATIENCE):
        events = queue.events()
        first = asyncio.create_task(anext(events))
        while not first.done():
            await queue.enqueue("true")
        process.kill()
        with pytest.raises(PoolGone):
            _ = [job async for job in events]


async def test_jobs_are_listed_and_counted(config: Config) -> None:
    async with Pool(config=config) as pool:
        await pool.enqueue("echo x", id="a", tags=["t"])
        await pool.wait("a")
        await pool.enqueue_many([JobSpec(command="true", id=f"j{n}", queue="q", delay=60 + n) for n in range(3)])
        assert [job.id async for job in pool.jobs(State.PENDING, newest=True, limit=2)] == ["j2", "j1"]
        assert [job.stdout async for job in pool.jobs(tag="t", output=True)] == ["x\n"]
        counts = await pool.counts()
        assert (counts[State.PENDING], counts[State.COMPLETED], counts[State.DEAD]) == (3, 1, 0)
        assert sum(counts.values()) == 4
        overview = await pool.status()
        assert overview.next_due is not None
        assert overview.next_due.id == "j0"
        assert await pool.remove("a", "j1") == ["a", "j1"]
        with pytest.raises(UnknownJob, match="ids are never used again"):
            await pool.get("a")


# A connection


@pytest.mark.parametrize("running", [False, True])
async def test_a_connection_asks_with_and_without_a_running_pool(
    config: Config, start_pool: StartPool, running: bool
) -> None:
    if running:
        await asyncio.to_thread(start_pool, "--queue", "none")
    async with aqueue.connect(config=config) as queue:
        job = await queue.enqueue("true", id="a", tags=["t"])
        assert await queue.get("a") == job
        await queue.enqueue_many(["true"] * 2500)
        assert len([job async for job in queue.jobs()]) == 2501
        assert (await queue.counts())[State.PENDING] == 2501
        assert (await queue.cancel("a"))[0].state is State.CANCELLED
        assert (await queue.retry("a"))[0].state is State.PENDING
        assert await queue.remove("a") == ["a"]
        with pytest.raises(UnknownJob):
            await queue.get("a")
        with pytest.raises(DuplicateJob):
            await queue.enqueue("true", id="a")
        assert ((await queue.status()).pool is not None) is running


async def test_a_connection_waits_for_a_job_that_another_process_runs(config: Config, start_pool: StartPool) -> None:
    process = await asyncio.to_thread(start_pool)
    async with aqueue.connect(config=config) as queue, asyncio.timeout(PATIENCE):
        done = await queue.wait((await queue.enqueue("echo there; exit 3", max_retries=0)).id)
        assert (done.state, done.stdout, done.exit_code) == (State.DEAD, "there\n", 3)
        assert done.history[0].pid is not None
        events = queue.events()
        first = asyncio.create_task(anext(events))
        await queue.counts()
        while not first.done():
            await queue.enqueue("true")
            await asyncio.wait({first}, timeout=0.05)
        assert first.result().state is State.PENDING
        await events.aclose()
        waiting = asyncio.create_task(queue.wait((await queue.enqueue("true", delay=60)).id))
        await queue.counts()
        process.terminate()
        with pytest.raises(PoolGone):
            await waiting


async def test_a_connection_without_a_pool_has_no_events(config: Config) -> None:
    async with aqueue.connect(config=config) as queue:
        with pytest.raises(InvalidRequest, match="no pool is running"):
            await anext(queue.events())


async def test_a_store_that_is_held_by_a_process_that_does_not_answer_is_an_error(
    config: Config, silent_holder: ExitStack
) -> None:
    async with aqueue.connect(config=config) as queue:
        with pytest.raises(PoolRunning, match="does not answer"):
            await queue.enqueue("true")
        silent_holder.close()
        assert (await queue.enqueue("true", id="a")).id == "a"


def test_jobs_that_come_while_a_pool_starts_and_stops_are_all_there(config: Config, run_clean: RunClean) -> None:
    async def ask(number: int) -> None:
        async with aqueue.connect(config=config) as queue:
            await asyncio.sleep(number / 400)  # spread over the life of the pools
            while True:
                try:
                    await queue.enqueue("true", id=f"j{number}", if_absent=True)
                except PoolGone:  # it stopped before it answered: ask again
                    continue
                return

    async def program() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(60):
                tasks.create_task(ask(number))
            for _ in range(4):
                async with Pool(config=config):
                    await asyncio.sleep(0.03)
        async with Pool(config=config) as pool:
            await pool.drain()
            assert await states(pool) == {f"j{number}": State.COMPLETED for number in range(60)}

    run_clean(program())


def test_a_connection_leaves_nothing_open(config: Config, run_clean: RunClean) -> None:
    async def program() -> None:
        async with Pool(config=config):
            before = len(os.listdir("/proc/self/fd"))
            async with aqueue.connect(config=config) as queue:
                await queue.enqueue("true", delay=60)
                async for _ in queue.jobs():
                    pass
            while len(os.listdir("/proc/self/fd")) > before:
                await asyncio.sleep(0)  # the other side hangs up in its own task

    run_clean(program())


async def test_a_relative_directory_means_the_same_however_a_job_is_queued(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rel").mkdir()
    monkeypatch.chdir(tmp_path)
    async with Pool(config=config) as pool:
        one = await pool.enqueue("pwd", cwd="rel")
        two, three = await pool.enqueue_many([JobSpec(command="pwd", cwd="rel"), JobSpec(command="pwd")])
        for job, directory in ((one, "rel"), (two, "rel"), (three, "")):
            assert (await pool.wait(job.id)).stdout == f"{tmp_path / directory}\n"


async def test_backoff_and_durations_can_be_given_in_an_application(config: Config) -> None:
    async with Pool(config=config) as pool:
        job = await pool.enqueue(
            "true", backoff_max="1m", backoff_jitter=0.5, timeout=timedelta(minutes=5), delay="1h", backoff_base=3
        )
        assert (job.backoff_max, job.backoff_jitter, job.timeout, job.backoff_base) == (60, 0.5, 300, 3)
        with pytest.raises(InvalidJob, match=r'^timeout must be a number of seconds, .*, not "x"$'):
            await pool.enqueue("true", timeout="x")
        with pytest.raises(InvalidJob, match=r"^command must be a string"):
            await pool.enqueue_many([["ls", "-l"]])  # type: ignore[list-item]
