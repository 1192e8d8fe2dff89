"""A stop in every order: it ends within the grace and the time to kill, no process is left, nothing is left in
`processing`."""

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aqueue import Pool
from aqueue.jobs.job import Job, State
from aqueue.settings.config import Config

Eventually = Callable[..., Any]
STUBBORN = "trap '' TERM; touch started$AQUEUE_JOB_ID; while :; do sleep 0.05; done"


@pytest.fixture
def quick(broken: Any) -> Any:
    """Half a second of grace, and half a second to kill."""
    broken.environ["AQUEUE_GRACE"] = "0.5"
    return broken


def assert_over(broken: Any, began: float, seconds: float) -> None:
    assert time.monotonic() - began < seconds
    assert [process.cmdline() for process in broken.processes()] == []
    assert broken.left_processing() == []
    assert not (broken.store / "pool.json").exists()
    assert not (broken.store / "socket").exists()


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4])
def test_a_pool_interrupted_while_it_starts_leaves_nothing_behind(quick: Any, delay: float) -> None:
    """The moments from the start of the interpreter to the first claim."""
    for number in range(3):
        quick.enqueue("sleep 0.1", id=f"n{number}")
    pool, began = quick.pool(wait=False), time.monotonic()
    time.sleep(delay)
    pool.send_signal(signal.SIGINT)
    pool.wait(15)
    assert_over(quick, began, 5 + delay)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["once", "twice", "now", "from elsewhere", "while draining"])
def test_a_stop_ends_100_commands_that_ignore_sigterm(quick: Any, eventually: Eventually, how: str) -> None:
    names = [f"n{number}" for number in range(100)]
    for name in names:
        quick.enqueue(STUBBORN, id=name)
    pool = quick.pool("--count", "100", *(["--drain"] if how == "while draining" else []))
    eventually(lambda: len(list(quick.folder.glob("started*"))) == 100, "the start of all")
    began = time.monotonic()
    if how == "from elsewhere":
        assert quick.run("worker", "stop")[0] == 0
    else:
        pool.send_signal(signal.SIGTERM)
    if how in ("twice", "now"):
        pool.send_signal(signal.SIGINT)
    pool.wait(15)
    assert_over(quick, began, 8)
    jobs = quick.jobs()
    assert {jobs[name].state for name in names} == {State.PENDING}
    assert {jobs[name].attempts for name in names} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["grace", "now", "leave"])
def test_a_stop_during_the_recovery_ends_what_was_adopted(quick: Any, eventually: Eventually, how: str) -> None:
    first = quick.pool()
    quick.enqueue(STUBBORN, id="j")
    eventually((quick.folder / "startedj").exists, "the start")
    first.kill()
    first.wait()

    async def come_and_go() -> None:
        pool = Pool(config=Config(str(quick.store), grace=30 if how == "now" else 0.2, kill_after=0.2))
        entering = asyncio.create_task(pool.__aenter__())
        await asyncio.sleep(0)
        pool.request_stop(now=how == "now", leave_running=how == "leave")
        await entering
        await pool.__aexit__(None, None, None)

    began = time.monotonic()
    asyncio.run(come_and_go())
    if how == "leave":
        assert quick.left_processing() == ["j"]
        assert quick.processes()
        quick.pool()
        assert quick.run("worker", "stop", "--now")[0] == 0
    assert_over(quick, began, 8)


@pytest.mark.parametrize("steps", [*range(0, 40, 3)])
async def test_a_pool_cancelled_at_any_step_leaves_nothing_behind(tmp_path: Path, broken: Any, steps: int) -> None:
    config = Config(str(broken.store), workers=3, grace=0.2, kill_after=0.2)

    async def application() -> None:
        async with Pool(config=config) as pool:
            for _ in range(6):
                await pool.enqueue(f"AQUEUE_STORE={broken.store} sleep 30")
            await asyncio.Event().wait()

    task, began = asyncio.create_task(application()), time.monotonic()
    for _ in range(steps):
        await asyncio.sleep(0.002)
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await asyncio.to_thread(assert_over, broken, began, 5)


async def test_a_stop_in_the_moment_of_a_claim_starts_nothing_that_it_does_not_end(
    broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is claimed, and the worker has not come to its next step, when the pool is told to stop now."""
    config = Config(str(broken.store), workers=1, grace=30, kill_after=0.2)
    async with Pool(config=config) as pool:
        claim = pool.workers.store.claim

        async def claim_and_stop(worker: int) -> Job:
            job = await claim(worker)
            pool.request_stop(now=True)
            return job

        monkeypatch.setattr(pool.workers.store, "claim", claim_and_stop)
        for name in ("first", "second"):  # the worker is waiting in the real claim for the first
            await pool.enqueue("exec sleep 30" if name == "second" else "true", id=name)
        began = time.monotonic()
        await asyncio.wait_for(pool.stopped(), 10)
    await asyncio.to_thread(assert_over, broken, began, 5)


@pytest.mark.slow
@pytest.mark.parametrize("args", [("wait", "j"), ("wait", "--all"), ("worker", "stop")])
def test_whoever_has_limited_patience_is_told_in_time_of_a_pool_that_does_not_answer(
    broken: Any, args: tuple[str, ...]
) -> None:
    pool = broken.pool("--queue", "none")
    broken.enqueue("true", id="j")
    pool.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        status, output = broken.run(*args, "--timeout", "0.5")
        assert (status, output.count("\n")) == (124, 1)
        assert time.monotonic() - began < 5
    finally:
        pool.send_signal(signal.SIGCONT)
    assert broken.run("worker", "stop")[0] == 0
