"""A pool in an application leaves no task, file or process behind, whatever its network does meanwhile."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from pathlib import Path

import psycopg
import pytest

from aqueue import Pool, State
from aqueue.errors import PoolGone, StoreError
from aqueue.settings.config import Config
from tests.conftest import RunClean
from tests.postgres.proxy import Proxy


@pytest.fixture
def settings(proxy: Proxy, tmp_path: Path) -> Config:
    return Config(proxy.url, workers=2, directory=str(tmp_path / "files"), lease=6, kill_after=0.3, max_retries=0)


@pytest.fixture
def leaves_nothing(run_clean: RunClean, proxy: Proxy) -> RunClean:
    """`run_clean` for a program whose proxy lives in the same process."""

    async def quietly(program: Coroutine[None, None, None]) -> None:
        await program
        gc.collect()  # psycopg closes the socket of an attempt to connect that failed when nobody refers to it any more
        await asyncio.to_thread(proxy.close_connections)

    return lambda program: run_clean(quietly(program))


async def started(path: Path) -> None:
    while not path.exists():  # the command announces it in no other way
        await asyncio.sleep(0.01)


def somebody_waits(database: str) -> None:
    """Return once the table says that a job's end is waited for."""
    with psycopg.connect(database, autocommit=True) as connection:
        while connection.execute("SELECT FROM aqueue.job_active WHERE awaited").fetchone() is None:
            pass


def test_a_pool_that_worked(leaves_nothing: RunClean, settings: Config) -> None:
    async def program() -> None:
        async with Pool(config=settings) as pool:
            jobs = await pool.enqueue_many(["echo out"] * 5)
            assert [(await pool.wait(job.id)).state for job in jobs] == [State.COMPLETED] * 5

    leaves_nothing(program())


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.03, 0.06, 0.1, 0.15])
def test_a_pool_that_is_cancelled_while_it_starts(leaves_nothing: RunClean, settings: Config, seconds: float) -> None:
    async def program() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds), Pool(config=settings):
                await asyncio.sleep(60)

    leaves_nothing(program())


@pytest.mark.slow
def test_a_pool_that_never_reached_its_database(leaves_nothing: RunClean, settings: Config, proxy: Proxy) -> None:
    async def program() -> None:
        proxy.swallow()
        with pytest.raises(StoreError, match="database postgresql://"):
            async with Pool(config=settings):
                pass

    leaves_nothing(program())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["swallow", "refuse"])
def test_a_pool_that_lost_its_database(
    leaves_nothing: RunClean, settings: Config, proxy: Proxy, database: str, tmp_path: Path, kind: str
) -> None:
    cut: Callable[[], None] = {"swallow": proxy.swallow, "refuse": proxy.refuse}[kind]

    async def lose(pool: Pool) -> None:
        async with pool:
            job = await pool.enqueue(f"touch {tmp_path}/started; exec sleep 60")
            waiting = asyncio.create_task(pool.wait(job.id))
            await started(tmp_path / "started")
            await asyncio.to_thread(somebody_waits, database)
            await pool.get(job.id)  # so the answer to who waits, which was sent before, is here
            cut()
            await asyncio.wait({waiting, asyncio.create_task(pool.stop(now=True))})
            with pytest.raises(PoolGone):
                waiting.result()

    async def program() -> None:
        with pytest.raises(StoreError, match="1 results could not be stored"):
            await lose(Pool(config=settings))

    leaves_nothing(program())
