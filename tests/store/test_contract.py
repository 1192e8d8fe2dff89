"""What every store must do. A store is a way to open it: see `opened`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from aqueue.errors import DuplicateJob, InvalidRequest, PoolRunning, UnknownJob
from aqueue.jobs.job import Job, Outcome, State
from aqueue.jobs.spec import Defaults, JobSpec, NewJob
from aqueue.settings.config import Config
from aqueue.store.open import open_pool_store
from aqueue.store.protocol import PoolStore, Query

T = TypeVar("T")
Open = Callable[..., PoolStore]

SUCCESS = Outcome(exit_code=0, pid=1, stdout="out\n", stderr="err\n")
FAILURE = Outcome(exit_code=1, stdout="failed\n")
STOPPED = Outcome(error="interrupted: the pool was stopped", interrupted=True)


def json_store(folder: Path) -> Open:
    def opened(*, queues: frozenset[str] = frozenset(), **settings: object) -> PoolStore:
        return open_pool_store(Config(str(folder / "store"), **settings), queues=queues)  # type: ignore[arg-type]

    return opened


def postgres_store(url: str, folder: Path) -> Open:
    def opened(*, queues: frozenset[str] = frozenset(), **settings: object) -> PoolStore:
        return open_pool_store(Config(url, directory=str(folder / "files"), **settings), queues=queues)  # type: ignore[arg-type]

    return opened


@pytest.fixture(params=["json", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same store, again and again."""
    if request.param == "json":
        return json_store(tmp_path)
    return postgres_store(request.getfixturevalue("database"), tmp_path)


@pytest.fixture
async def store(opened: Open) -> AsyncIterator[PoolStore]:
    async with opened() as store:
        yield store


def spec(command: str = "true", **fields: object) -> NewJob:
    return JobSpec(**{"command": command, **fields}).with_defaults(Defaults(backoff_base=0))  # type: ignore[arg-type]


async def soon(step: Awaitable[T]) -> T:
    return await asyncio.wait_for(step, 10)


async def add(store: PoolStore, name: str | None = None, **fields: Any) -> Job:
    return (await store.add([spec(id=name, **fields)]))[0]


async def attempt(store: PoolStore, outcome: Outcome) -> Job:
    return await store.settle(await soon(store.claim(1)), outcome)


async def ended(store: PoolStore, name: str, outcome: Outcome = SUCCESS, **fields: object) -> Job:
    await add(store, name, max_retries=0, **fields)
    await attempt(store, outcome)
    return await soon(store.wait(name))


async def cancelled_claim(store: PoolStore, turns: int) -> Job | None:
    """Begin a claim and cancel it so many turns of the loop later; return the job if it was too late for that."""
    task = asyncio.create_task(store.claim(1))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


async def take_back_a_claim(store: PoolStore) -> None:
    """Cancel a claim between the moment in which it is made and that in which its worker has it."""
    store.max_interruptions = 1000
    heard: list[State] = []
    unsubscribe = store.subscribe(lambda job: heard.append(job.state))
    for steps in range(1, 1000):
        heard.clear()
        job = await cancelled_claim(store, steps)
        if job is not None:
            await store.settle(job, replace(STOPPED, stdout="failed\n"))
            continue
        await store.flush()
        if State.PROCESSING in heard:
            break
    else:
        pytest.fail("no claim was ever taken back")
    unsubscribe()


async def idle(step: "asyncio.Task[Job] | asyncio.Task[None]") -> bool:
    """Whether a step still waits when everything that could move has moved: also over a connection."""
    await asyncio.wait({step}, timeout=0.1)
    return not step.done()


async def ids(store: PoolStore, **query: object) -> list[str]:
    return [job.id async for part in store.find(Query(**query)) for job in part]  # type: ignore[arg-type]


# Adding


async def test_a_job_that_was_added_is_there_as_it_was_asked_for(store: PoolStore) -> None:
    made = await add(
        store, "a", command="echo 'é\n\t\"'", priority=3, tags=("x", "y"), env={"K": "v"}, cwd="/", timeout=2
    )
    assert await store.get("a") == made
    assert (made.command, made.priority, made.tags, made.env, made.timeout) == (
        "echo 'é\n\t\"'",
        3,
        ("x", "y"),
        {"K": "v"},
        2,
    )
    assert (made.state, made.attempts) == (State.PENDING, 0)


async def test_what_was_added_is_there_when_the_store_is_opened_again(opened: Open) -> None:
    async with opened() as store:
        made = await store.add([spec(id="a", delay=60), spec(), spec(queue="q")])
    async with opened() as store:
        assert [job async for part in store.find(Query()) for job in part] == made


async def test_a_job_without_an_id_gets_a_short_one_of_its_own(store: PoolStore) -> None:
    made = await store.add([spec() for _ in range(2000)])
    assert len({job.id for job in made}) == 2000
    assert max(len(job.id) for job in made) <= 8


async def test_a_made_id_gives_way_to_one_that_somebody_chose(store: PoolStore) -> None:
    following = await add(store)
    guess = following.id[:-1] + chr(ord(following.id[-1]) + 2)
    await add(store, guess)
    assert len({job.id for job in await store.add([spec(), spec(), spec()])} | {guess}) == 4


async def test_an_id_that_exists_is_refused_and_the_rest_of_the_batch_with_it(store: PoolStore) -> None:
    await add(store, "a")
    with pytest.raises(DuplicateJob, match="id a exists already"):
        await store.add([spec(id="b"), spec(id="a"), spec()])
    assert await ids(store) == ["a"]
    await add(store, "b")


async def test_two_equal_ids_in_a_batch_are_refused(store: PoolStore) -> None:
    with pytest.raises(DuplicateJob, match="id a occurs twice"):
        await store.add([spec(id="a"), spec(id="b"), spec(id="a")])
    assert await ids(store) == []


async def test_of_many_who_add_the_same_id_at_once_one_wins(store: PoolStore) -> None:
    results = await asyncio.gather(*(add(store, "a", command=f"echo {n}") for n in range(20)), return_exceptions=True)
    made = [result for result in results if isinstance(result, Job)]
    assert len(made) == 1
    assert sum(isinstance(result, DuplicateJob) for result in results) == 19
    assert (await store.get("a")).command == made[0].command


async def test_with_if_absent_a_job_that_exists_stays_as_it_is_and_is_returned(store: PoolStore) -> None:
    first = await ended(store, "a")
    made = await store.add([spec(id="b"), spec("other", id="a"), spec()], if_absent=True)
    assert [job.id for job in made[:2]] == ["b", "a"]
    assert made[1] == first
    assert (await store.get("a")).command == "true"
    assert len(await ids(store)) == 3


async def test_with_if_absent_all_who_come_at_once_get_the_same_job(store: PoolStore) -> None:
    answers = await asyncio.gather(
        *(store.add([spec(f"echo {n}", id="a")], if_absent=True) for n in range(10)), return_exceptions=True
    )
    assert {answer[0].command for answer in answers if isinstance(answer, list)} == {"echo 0"}
    assert len([answer for answer in answers if isinstance(answer, list)]) == 10


async def test_an_id_is_never_used_again(opened: Open) -> None:
    async with opened() as store:
        await ended(store, "a")
        await store.remove(["a"])
        for if_absent in (False, True):
            with pytest.raises(DuplicateJob, match="never used again"):
                await store.add([spec(id="a")], if_absent=if_absent)
    async with opened() as store:
        with pytest.raises(DuplicateJob, match="never used again"):
            await add(store, "a")


async def test_a_made_id_is_never_made_again(opened: Open) -> None:
    seen: set[str] = set()
    for _ in range(3):
        async with opened() as store:
            made = [job.id for job in await store.add([spec(), spec()])]
            assert seen.isdisjoint(made)
            seen.update(made)
            await store.remove(made)


async def test_a_made_id_that_was_removed_cannot_be_chosen(opened: Open) -> None:
    async with opened() as store:
        for name in (None, "j0003", None):  # the third gives way to the second
            made = await add(store, name)
        names = ["j0001", "j0003", made.id]
        assert await ids(store) == names
        await store.remove(names)
        for name in names:
            with pytest.raises(UnknownJob, match="it was removed"):
                await store.get(name)
    for if_absent in (False, True):
        async with opened() as store:
            for name in names:
                with pytest.raises(DuplicateJob, match="never used again"):
                    await store.add([spec(id=name)], if_absent=if_absent)
            assert (await add(store)).id not in names


# Claiming


async def test_jobs_are_claimed_by_priority_and_then_by_age(store: PoolStore) -> None:
    await store.add([spec(id="a"), spec(id="b"), spec(id="low", priority=-1), spec(id="high", priority=1)])
    assert [(await soon(store.claim(1))).id for _ in range(4)] == ["high", "a", "b", "low"]


async def test_a_claimed_job_is_in_nobody_elses_hands(store: PoolStore) -> None:
    await store.add([spec() for _ in range(50)])
    claimed = await soon(asyncio.gather(*(store.claim(slot) for slot in range(50))))
    assert len({job.id for job in claimed}) == 50
    assert len({job.history[-1].token for job in claimed}) == 50
    waiting = asyncio.create_task(store.claim(51))
    assert await idle(waiting)
    waiting.cancel()


async def test_a_worker_that_waits_gets_the_job_that_comes(store: PoolStore) -> None:
    waiting = asyncio.create_task(store.claim(3))
    assert await idle(waiting)
    await add(store, "a")
    job = await soon(waiting)
    assert (job.id, job.state, job.history[-1].worker) == ("a", State.PROCESSING, 3)


async def test_a_job_is_not_claimed_before_its_time_and_then_at_once(store: PoolStore) -> None:
    run_at = datetime.now(UTC) + timedelta(seconds=0.3)
    await store.add([spec(id="a", run_at=run_at, priority=9), spec(id="b", delay=3600)])
    job = await soon(store.claim(1))
    assert job.id == "a"
    assert 0 <= (datetime.now(UTC) - run_at).total_seconds() < 0.25
    assert await store.next_due() == await store.get("b")


async def test_a_worker_that_gives_up_leaves_the_job_to_the_next(store: PoolStore) -> None:
    first, second = asyncio.create_task(store.claim(1)), asyncio.create_task(store.claim(2))
    assert await idle(first)
    await add(store, "a")
    first.cancel()
    assert (await soon(second)).id == "a"


async def test_a_claim_that_is_taken_back_keeps_what_the_job_printed_before(store: PoolStore) -> None:
    await add(store, "a", max_retries=1)
    await attempt(store, FAILURE)
    await take_back_a_claim(store)
    assert (await store.get("a")).stdout == "failed\n"


async def test_a_claim_that_is_cancelled_at_any_moment_loses_no_job(opened: Open) -> None:
    async with opened(max_interruptions=1000) as store:
        await add(store, "a")
        for steps in range(40):
            job = await cancelled_claim(store, steps)
            if job is not None:
                await store.settle(job, STOPPED)
    async with opened() as store:
        assert (await store.get("a")).state is State.PENDING
        assert (await soon(store.claim(1))).id == "a"


async def test_only_the_queues_asked_for_are_served(opened: Open) -> None:
    async with opened(queues=frozenset({"x", "y"})) as store:
        await store.add([spec(id="z", queue="z", priority=9), spec(id="x", queue="x"), spec(id="y", queue="y")])
        assert [(await soon(store.claim(1))).id for _ in range(2)] == ["x", "y"]
        waiting = asyncio.create_task(store.claim(1))
        assert await idle(waiting)
        waiting.cancel()


# How attempts end


async def test_a_success_is_recorded_with_what_was_printed(opened: Open) -> None:
    async with opened() as store:
        job = await ended(store, "a")
        assert (job.state, job.exit_code, job.stdout, job.stderr) == (State.COMPLETED, 0, "out\n", "err\n")
    async with opened() as store:
        assert await store.get("a") == job


async def test_a_failure_is_claimed_again_until_its_retries_are_used_up(store: PoolStore) -> None:
    await add(store, "a", max_retries=2)
    states = [(await attempt(store, replace(FAILURE, exit_code=n, stdout=f"{n}\n"))).state for n in (1, 2, 3)]
    assert states == [State.FAILED, State.FAILED, State.DEAD]
    job = await store.get("a")
    assert (job.attempts, [entry.exit_code for entry in job.history], job.stdout) == (3, [1, 2, 3], "3\n")


async def test_a_retry_waits_for_its_backoff(store: PoolStore) -> None:
    await add(store, "a", backoff_base=0.3)
    job = await attempt(store, FAILURE)
    again = await soon(store.claim(1))
    assert job.run_at is not None
    assert 0 <= (again.history[-1].started_at - job.run_at).total_seconds() < 0.25


async def test_an_interrupted_attempt_is_pending_again_and_costs_nothing(opened: Open) -> None:
    async with opened() as store:
        await add(store, "a", max_retries=0)
        await attempt(store, STOPPED)
    async with opened() as store:
        job = await store.get("a")
        assert (job.state, job.attempts, job.interruptions) == (State.PENDING, 0, 1)
        assert (await soon(store.claim(1))).id == "a"


async def test_too_many_interruptions_end_in_the_dead_letter_queue(opened: Open) -> None:
    async with opened(max_interruptions=2) as store:
        await add(store, "a")
        assert [(await attempt(store, STOPPED)).state for _ in range(2)] == [State.PENDING, State.DEAD]


async def test_an_attempt_without_an_end_is_still_processing_when_the_store_is_opened_again(opened: Open) -> None:
    async with opened() as store:
        await add(store, "a")
        claimed = await soon(store.claim(4))
    async with opened() as store:
        assert replace(await store.get("a"), stdout=None, stderr=None) == claimed
        waiting = asyncio.create_task(store.claim(1))
        assert await idle(waiting)
        waiting.cancel()


# Steering


async def test_a_job_that_waits_is_cancelled_and_never_claimed(store: PoolStore) -> None:
    await store.add([spec(id="a"), spec(id="later", delay=3600), spec(id="b")])
    assert (await store.cancel("a")).state is State.CANCELLED
    assert (await store.cancel("later")).state is State.CANCELLED
    assert (await soon(store.claim(1))).id == "b"


async def test_a_job_that_waits_for_its_retry_is_cancelled_with_its_output_kept(store: PoolStore) -> None:
    await add(store, "a", backoff_base=1000)
    await attempt(store, FAILURE)
    assert (await store.cancel("a")).state is State.CANCELLED
    assert (await store.get("a")).stdout == "failed\n"


@pytest.mark.parametrize(
    ("step", "why"),
    [("cancel", "a is completed: only a job that waits"), ("retry", "a is completed: only a dead or cancelled")],
)
async def test_what_succeeded_is_neither_cancelled_nor_retried(store: PoolStore, step: str, why: str) -> None:
    await ended(store, "a")
    with pytest.raises(InvalidRequest, match=why):
        await getattr(store, step)("a")


async def test_a_dead_job_is_put_back_with_a_full_budget(opened: Open) -> None:
    async with opened() as store:
        await ended(store, "a", FAILURE)
        await store.retry("a")
    async with opened() as store:
        job = await store.get("a")
        assert (job.state, job.attempts, len(job.history), job.stdout) == (State.PENDING, 0, 1, "failed\n")
        assert (await attempt(store, SUCCESS)).state is State.COMPLETED


async def test_removed_jobs_are_gone_for_good(opened: Open) -> None:
    async with opened() as store:
        await ended(store, "a")
        await store.add([spec(id="b"), spec(id="c")])
        assert [job.id for job in await store.remove(["a", "b", "a"])] == ["a", "b"]
        assert await ids(store) == ["c"]
    async with opened() as store:
        assert await ids(store) == ["c"]
        assert (await soon(store.claim(1))).id == "c"


async def test_a_running_job_is_not_removed_and_nothing_else_of_the_batch(store: PoolStore) -> None:
    await store.add([spec(id="a"), spec(id="b")])
    await soon(store.claim(1))
    with pytest.raises(InvalidRequest, match="a is processing"):
        await store.remove(["b", "a"])
    assert await ids(store) == ["a", "b"]


async def test_a_limit_may_be_of_any_size(store: PoolStore) -> None:
    await store.add([spec(id="a"), spec(id="b")])
    for limit, found in ((0, []), (1, ["a"]), (3, ["a", "b"]), (10**30, ["a", "b"])):
        assert await ids(store, limit=limit) == found
        assert await ids(store, limit=limit, queue="default") == found


@pytest.mark.parametrize("question", ["get", "cancel", "retry", "wait"])
async def test_an_unknown_id_is_named(store: PoolStore, question: str) -> None:
    with pytest.raises(UnknownJob, match="'nobody'"):
        await getattr(store, question)("nobody")
    with pytest.raises(UnknownJob, match="'nobody'"):
        await store.remove(["nobody"])


# Questions


async def test_jobs_are_found_by_what_they_are(store: PoolStore) -> None:
    await ended(store, "done", tags=("t",))
    await ended(store, "dead", FAILURE, queue="q")
    await store.add([spec(id="a", tags=("t", "u")), spec(id="b", queue="q"), spec(id="c")])
    assert await ids(store) == ["done", "dead", "a", "b", "c"]
    assert await ids(store, states=frozenset({State.DEAD, State.COMPLETED})) == ["done", "dead"]
    assert await ids(store, queue="q") == ["dead", "b"]
    assert await ids(store, tag="t") == ["done", "a"]
    assert await ids(store, tag="t", states=frozenset({State.PENDING})) == ["a"]
    assert await ids(store, newest=True, limit=2) == ["c", "b"]
    assert await ids(store, limit=2) == ["done", "dead"]
    assert await ids(store, limit=0) == []
    assert await ids(store, queue="q", newest=True, limit=1) == ["b"]


async def test_jobs_that_ended_before_a_time_are_found(store: PoolStore) -> None:
    before, after = [(await ended(store, name)).updated_at for name in ("a", "b")]
    assert before is not None
    assert after is not None
    await add(store, "c")
    assert await ids(store, finished_before=before + (after - before) / 2) == ["a"]


async def test_output_comes_only_when_it_is_asked_for(store: PoolStore) -> None:
    await ended(store, "a")
    await add(store, "b")
    plain = [job async for part in store.find(Query()) for job in part]
    full = [job async for part in store.find(Query(output=True)) for job in part]
    assert [job.stdout for job in plain] == [None, None]
    assert full[0].stdout == "out\n"


async def test_a_limit_is_kept_in_a_long_list(store: PoolStore) -> None:
    made = await store.add([spec(queue="x" if n % 2 else "y") for n in range(3000)])
    assert await ids(store, queue="x", limit=1200) == [job.id for job in made[1::2]][:1200]
    assert await ids(store) == [job.id for job in made]


async def test_the_end_of_a_job_is_waited_for(store: PoolStore) -> None:
    await add(store, "a", max_retries=1)
    waiting = asyncio.create_task(store.wait("a"))
    await attempt(store, FAILURE)
    assert await idle(waiting)
    await attempt(store, SUCCESS)
    job = await soon(waiting)
    assert (job.state, job.stdout, job.attempts) == (State.COMPLETED, "out\n", 2)
    assert await soon(store.wait("a")) == job


async def test_who_waits_for_a_cancelled_job_is_told(store: PoolStore) -> None:
    await add(store, "a")
    waiting = asyncio.create_task(store.wait("a"))
    assert await idle(waiting)
    await store.cancel("a")
    assert (await soon(waiting)).state is State.CANCELLED


async def test_who_waits_for_a_job_that_is_removed_is_told(store: PoolStore) -> None:
    await add(store, "a")
    waiting = asyncio.create_task(store.wait("a"))
    assert await idle(waiting)
    await store.remove(["a"])
    with pytest.raises(UnknownJob, match="removed before it ended"):
        await soon(waiting)


async def test_jobs_are_counted_by_queue_and_state(store: PoolStore) -> None:
    await ended(store, "a")
    await ended(store, "b", FAILURE, queue="q")
    await store.add([spec(id="c"), spec(id="d"), spec(queue="q")])
    await soon(store.claim(1))
    counts = {queue: {s: n for s, n in states.items() if n} for queue, states in (await store.counts()).items()}
    assert counts == {
        "default": {State.COMPLETED: 1, State.PENDING: 1, State.PROCESSING: 1},
        "q": {State.DEAD: 1, State.PENDING: 1},
    }
    await store.remove(["a", "b", "d"])
    counts = {queue: {s: n for s, n in states.items() if n} for queue, states in (await store.counts()).items()}
    assert counts == {"default": {State.PROCESSING: 1}, "q": {State.PENDING: 1}}


async def test_every_change_of_state_is_heard_in_order_until_one_stops_listening(store: PoolStore) -> None:
    heard: list[tuple[str, State]] = []
    unsubscribe = store.subscribe(lambda job: heard.append((job.id, job.state)))
    await ended(store, "a")
    await add(store, "b", max_retries=1)
    await attempt(store, FAILURE)
    await store.cancel("b")
    await store.retry("b")
    unsubscribe()
    await add(store, "c")
    assert heard == [
        ("a", State.PENDING),
        ("a", State.PROCESSING),
        ("a", State.COMPLETED),
        ("b", State.PENDING),
        ("b", State.PROCESSING),
        ("b", State.FAILED),
        ("b", State.CANCELLED),
        ("b", State.PENDING),
    ]


async def test_a_claim_that_is_taken_back_is_heard_too(store: PoolStore) -> None:
    last: dict[str, State] = {}
    store.subscribe(lambda job: last.update({job.id: job.state}))
    await add(store, "a")
    await take_back_a_claim(store)
    assert last == {"a": State.PENDING}


async def test_the_store_is_drained_when_nothing_is_due_running_or_to_be_retried(store: PoolStore) -> None:
    await soon(store.wait_drained())
    await add(store, "later", delay=3600)
    await soon(store.wait_drained())
    await add(store, "a", backoff_base=1000, max_retries=1)
    drained = asyncio.create_task(store.wait_drained())
    assert await idle(drained)
    job = await soon(store.claim(1))
    assert await idle(drained)
    await store.settle(job, FAILURE)
    assert await idle(drained)
    await store.cancel("a")
    await soon(drained)


# Coming and going


async def test_a_store_has_one_owner_at_a_time(opened: Open) -> None:
    async with opened() as store:
        with pytest.raises(PoolRunning):
            await opened().__aenter__()
        await add(store, "a")
    async with opened() as store:
        assert await ids(store) == ["a"]


async def test_records_of_another_store_are_taken_as_they_are(opened: Open) -> None:
    async with opened() as store:
        done = await ended(store, "a")
        pending = await add(store, "b")
        await store.remove(["a", "b"])
        mine = await add(store, "mine")
        records = [replace(done, id="x"), replace(pending, id="y")]
        made = await store.import_jobs(records)
        with pytest.raises(DuplicateJob):
            await store.import_jobs([replace(done, id="z"), replace(done, id="mine")])
    async with opened() as store:
        assert await ids(store) == ["mine", "x", "y"]
        got = await store.get("x")
        assert (got.state, got.stdout, got.history) == (State.COMPLETED, "out\n", done.history)
        assert len({job.seq for job in (mine, *made)}) == 3
        assert {(await soon(store.claim(1))).id for _ in range(2)} == {"y", "mine"}
