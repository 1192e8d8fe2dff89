"""The jobs of a pool that is gone."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg

from aqueue.settings.config import Config
from aqueue.store.postgres.connection import close_now, connect
from aqueue.store.postgres.integrity import check
from aqueue.store.postgres.rescue import rescue
from tests.postgres.hosts import PATIENCE
from tests.postgres.test_pool_store import open_pools, spec

PROCESSING = "SELECT id FROM aqueue.job_active WHERE state = 'processing'"


async def test_a_locked_job_keeps_none_of_the_others_from_being_rescued(database: str, tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        (store,) = await open_pools(stack, database, tmp_path, 1)
        made = await store.add([spec() for _ in range(3)])
        await asyncio.gather(*(store.claim(slot) for slot in range(3)))
    connection = await connect(database)
    async with asyncio.timeout(PATIENCE):
        await connection.execute("UPDATE aqueue.pool SET lease = '0 s'")
        with psycopg.connect(database) as foreign:
            foreign.execute("SELECT FROM aqueue.job WHERE id = %s FOR UPDATE", (made[1].id,))
            (said,) = await rescue(connection, 3)
            assert "fell silent: 2 of its jobs are queued again" in said
            assert await (await connection.execute(PROCESSING)).fetchall() == [(made[1].id,)]
            assert await rescue(connection, 3) == [], "it is locked still"
        config = Config(database, directory=str(tmp_path / "client"))
        problems, done, _ = await check(config, repair=True)
        assert (problems, done) == (
            ["1 jobs are processing in no pool"],
            ["a pool is gone: 1 of its jobs are queued again"],
        )
        assert await (await connection.execute(PROCESSING)).fetchall() == []
        assert await (await connection.execute("SELECT FROM aqueue.pool")).fetchall() == []
    await close_now(connection)
