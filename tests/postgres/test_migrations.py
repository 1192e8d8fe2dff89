"""Databases that earlier versions of the program made: they are migrated, and their jobs stay what they were."""

import re
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from aqueue.errors import DuplicateJob, StoreError
from aqueue.jobs.spec import Defaults, JobSpec
from aqueue.settings.config import Config
from aqueue.store.open import check_database, open_pool_store, open_store, prepare_database
from aqueue.store.postgres import schema
from aqueue.store.protocol import Query, Store
from tests import databases

FORMATS = Path(__file__).parent / "formats"
LISTED = msgspec.json.decode((FORMATS / "jobs.json").read_bytes(), type=list[dict[str, Any]])
"""What version 0.1 listed, in both databases."""
SHAPE = """
    SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
    WHERE table_schema = 'aqueue' ORDER BY 1, 2"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'aqueue' ORDER BY 1"


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest, database: str) -> int:
    """The version of the tables in `database`, which an earlier program made."""
    number: int = request.param
    with psycopg.connect(database) as connection:
        connection.execute((FORMATS / f"version-{number}.sql").read_bytes())
    return number


@pytest.fixture
def config(database: str, tmp_path: Path) -> Config:
    return Config(database, directory=str(tmp_path / "files"), lease=6)


async def listed(store: Store) -> list[dict[str, Any]]:
    """The jobs, with the fields that version 0.1 knew."""
    records = [job.record() async for part in store.find(Query(output=True)) for job in part]
    jobs: list[dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(records))
    known = LISTED[0].keys()
    return [{name: value for name, value in job.items() if name in known} for job in jobs]


async def test_store_init_migrates_a_database_and_its_jobs_stay_what_they_were(version: int, config: Config) -> None:
    assert await prepare_database(config) == (version, schema.VERSION)
    async with open_store(config) as store:
        assert await listed(store) == LISTED
    problems, _, count = await check_database(config, repair=False)
    assert (problems, count) == ([], len(LISTED))


async def test_a_pool_migrates_a_database_and_its_jobs_stay_what_they_were(version: int, config: Config) -> None:
    async with open_pool_store(config) as store:
        assert await listed(store) == LISTED


async def test_a_removed_id_is_not_used_again_and_a_new_job_gets_the_next_number(version: int, config: Config) -> None:
    await prepare_database(config)
    async with open_store(config) as store:
        with pytest.raises(DuplicateJob, match="it was removed"):
            await store.add([JobSpec(command="true", id="removed").with_defaults(Defaults())])
        (job,) = await store.add([JobSpec(command="true").with_defaults(Defaults())])
        assert job.seq == 10


async def test_a_command_opens_the_current_version_and_says_what_migrates_others(version: int, config: Config) -> None:
    refused = f"of version {version}; this brings it to {schema.VERSION}"
    with nullcontext() if version == schema.VERSION else pytest.raises(StoreError, match=refused):
        async with open_store(config) as store:
            assert await listed(store) == LISTED


async def test_a_migrated_database_has_the_tables_of_a_new_one(
    version: int, database: str, config: Config, postgres: databases.Server
) -> None:
    await prepare_database(config)
    new = postgres.database()
    try:
        await prepare_database(Config(new, directory=config.directory))
        with psycopg.connect(database) as migrated, psycopg.connect(new) as fresh:
            for query in (SHAPE, INDEXES):
                assert migrated.execute(query).fetchall() == fresh.execute(query).fetchall()
    finally:
        postgres.drop(new)


def test_migrations_are_numbered_without_a_gap_and_each_is_loaded() -> None:
    names = sorted(file.name for file in files("aqueue.store.postgres").joinpath("migrations").iterdir())
    assert [int(re.sub(r"_.*", "", name)) for name in names] == list(range(1, schema.VERSION + 1))
    assert all(name.endswith(".sql") for name in names)
