"""Many pools on one database: each job has one of them, and none is overlooked."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from aqueue.errors import InvalidRequest, StoreError
from aqueue.jobs.job import Job, Outcome, State, utc_now
from aqueue.jobs.spec import Defaults, JobSpec, NewJob
from aqueue.settings.config import Config
from aqueue.store.open import open_pool_store, open_store
from aqueue.store.postgres import actions
from aqueue.store.postgres.statement import Statement
from aqueue.store.protocol import PoolStore, Query
from tests import databases
from tests.postgres.hosts import PATIENCE

SUCCESS = Outcome(exit_code=0)


def spec(**fields: object) -> NewJob:
    return JobSpec(**{"command": "true", **fields}).with_defaults(Defaults(max_retries=0))  # type: ignore[arg-type]


async def open_pool(stack: AsyncExitStack, url: str, folder: Path) -> PoolStore:
    store = open_pool_store(Config(url, directory=str(folder), lease=6))
    await stack.enter_async_context(store)
    return store


async def open_pools(stack: AsyncExitStack, url: str, folder: Path, count: int) -> list[PoolStore]:
    """So many pools, all started at once."""
    return await asyncio.gather(*(open_pool(stack, url, folder / str(number)) for number in range(count)))


async def work(store: PoolStore, slot: int, done: list[Job]) -> None:
    while True:
        job = await store.claim(slot)
        done.append(job)
        await store.settle(job, SUCCESS)


@pytest.mark.slow
async def test_twenty_pools_that_start_on_an_empty_database_and_claim_at_once_share_the_jobs(
    database: str, tmp_path: Path
) -> None:
    done: list[Job] = []
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        stores = await open_pools(stack, database, tmp_path, 20)
        tasks = [asyncio.create_task(work(store, slot, done)) for store in stores for slot in (1, 2)]
        made = [
            await store.add([spec(queue=f"q.{number % 3}") for _ in range(30)]) for number, store in enumerate(stores)
        ]
        await stores[0].wait_drained()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        names = [job.id for jobs in made for job in jobs]
        assert Counter(job.id for job in done) == Counter(names)
        counts = await stores[0].counts()
        assert {state: sum(queue[state] for queue in counts.values()) for state in State}[State.COMPLETED] == 600
        assert len(await stores[3].pools()) == 20


async def test_a_job_that_another_pool_passed_over_is_not_overlooked(database: str, tmp_path: Path) -> None:
    """Each pool has one free worker, and looks at both queues: who comes second finds the first job of both locked."""
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        stores = await open_pools(stack, database, tmp_path, 2)
        for _ in range(30):
            claims = [asyncio.create_task(store.claim(1)) for store in stores]
            await asyncio.sleep(0.01)
            await stores[0].add([spec(queue="a"), spec(queue="b")])
            async with asyncio.timeout(5):
                jobs = await asyncio.gather(*claims)
            for store, job in zip(stores, jobs, strict=True):
                await store.settle(job, SUCCESS)


async def test_a_job_that_comes_first_while_others_are_claimed_is_not_overlooked(database: str, tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        (store,) = await open_pools(stack, database, tmp_path, 1)
        for number in range(50):
            claim = asyncio.create_task(store.claim(1))
            await store.add([spec(priority=number)])
            urgent = asyncio.create_task(store.add([spec(priority=1000 + number)]))
            async with asyncio.timeout(5):
                await store.settle(await claim, SUCCESS)
                await store.settle(await store.claim(1), SUCCESS)
            await urgent


async def test_a_job_for_later_is_claimed_on_time_by_any_pool(database: str, tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        stores = await open_pools(stack, database, tmp_path, 3)
        made = await stores[0].add([spec(delay=0.4), spec(run_at=utc_now() + timedelta(seconds=0.8)), spec(delay=1.2)])
        jobs = await asyncio.gather(*(store.claim(1) for store in stores))
        for job in made:
            begun = next(claimed.started_at for claimed in jobs if claimed.id == job.id)
            assert begun is not None
            assert timedelta(0) <= begun - job.due_at < timedelta(seconds=0.3)


@pytest.mark.slow
async def test_a_notification_that_is_lost_costs_at_most_a_sweep(database: str, tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        (store,) = await open_pools(stack, database, tmp_path, 1)
        claim = asyncio.create_task(store.claim(1))
        await store.add([spec(delay=3600)])
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await connection.execute("UPDATE aqueue.job_active SET ready = true")  # which nothing announces
        async with asyncio.timeout(8):
            await claim


async def test_cancels_that_come_while_pools_claim_disturb_nobody(
    database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[Job] = []
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        stores = await open_pools(stack, database, tmp_path, 3)
        for _ in range(10):
            jobs = await stores[0].add([spec() for _ in range(20)])
            tasks = [asyncio.create_task(work(store, slot, done)) for store in stores for slot in (1, 2)]
            for job in reversed(jobs):
                try:
                    await stores[1].cancel(job.id)
                except InvalidRequest:
                    break  # it has ended
            await stores[2].wait_drained()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert caplog.records == []
        assert len({job.id for job in done}) == len(done)


async def test_a_job_that_is_retried_while_it_expires_stays(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expire = actions._EXPIRE
    held_up = expire.text.replace("WHERE state", "WHERE (SELECT count(pg_advisory_xact_lock(1))) = 1 AND state")
    monkeypatch.setattr(actions, "_EXPIRE", Statement(held_up, expire.row))
    gone: list[str] = []
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        (store,) = await open_pools(stack, database, tmp_path, 1)
        connect = psycopg.AsyncConnection.connect(database, autocommit=True)
        other = await stack.enter_async_context(await connect)
        await store.add([spec(id="a"), spec(id="b")])
        for job_id in ("a", "b"):
            await store.cancel(job_id)
        await other.execute("SELECT pg_advisory_lock(1)")
        task = asyncio.create_task(store.prune(utc_now() + timedelta(days=1), lambda job: gone.append(job.id)))
        waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
        while not (await other.execute(waits)).rowcount:
            await asyncio.sleep(0.01)
        await store.retry("b")
        await other.execute("SELECT pg_advisory_unlock(1)")
        assert await task is None
        assert gone == ["a"]
        assert (await store.get("b")).state is State.PENDING


@pytest.fixture
def make_database(postgres: databases.Server) -> Iterator[Callable[[str], str]]:
    """Makes a database with an encoding, and returns its URL."""
    made: list[str] = []

    def make(encoding: str) -> str:
        made.append(postgres.database(f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"))
        return made[-1]

    yield make
    for url in made:
        postgres.drop(url)


async def test_a_database_whose_encoding_has_not_every_character_is_refused(
    make_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = make_database("LATIN1")
    for open_either in (open_pool_store, open_store):
        with pytest.raises(StoreError, match=r"encoding LATIN1, .* with UTF8 or SQL_ASCII$"):
            async with open_either(Config(url, directory=str(tmp_path / "new"))):
                pass
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('aqueue.version')").fetchone() == (None,)


async def test_a_database_without_an_encoding_takes_every_character(
    make_database: Callable[[str], str], tmp_path: Path
) -> None:
    async with open_pool_store(Config(make_database("SQL_ASCII"), directory=str(tmp_path / "new"))) as store:
        await store.add([spec(id="a", command="echo \N{SNOWMAN}é")])
        assert (await store.get("a")).command == "echo \N{SNOWMAN}é"


async def test_a_database_that_is_newer_than_the_program_is_refused(database: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        await open_pools(stack, database, tmp_path, 1)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("UPDATE aqueue.version SET version = 1000")
    for open_either in (open_pool_store, open_store):
        with pytest.raises(StoreError, match="version 1000, and this aqueue knows"):
            async with open_either(Config(database, directory=str(tmp_path / "new"))):
                pass


async def test_what_is_removed_while_it_is_waited_for_ends_the_wait(database: str, tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        one, other = await open_pools(stack, database, tmp_path, 2)
        (job,) = await one.add([spec(delay=60)])
        waiting = asyncio.create_task(other.wait(job.id))
        await asyncio.sleep(0.1)
        await one.remove([job.id])
        with pytest.raises(Exception, match="was removed before it ended"):
            await waiting
        assert [found async for found in one.find(Query())] == []
