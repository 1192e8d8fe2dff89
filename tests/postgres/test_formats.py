"""A database of every schema version that an aqueue ever made opens, with the same jobs."""

import json
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from aqueue.errors import DuplicateJob, StoreError
from aqueue.jobs.job import State
from aqueue.jobs.spec import Defaults, JobSpec
from aqueue.settings.config import Config
from aqueue.store.open import check_database, open_pool_store, open_store, prepare_database
from aqueue.store.postgres import schema
from aqueue.store.protocol import Query

FORMATS = Path(__file__).parent / "formats"
VERSIONS = sorted(int(path.stem.removeprefix("version-")) for path in FORMATS.glob("*.sql"))
JOB_IDS = ["hello", "doomed", "killed", "j0004", "again", "urgent", "later", "never", "waits"]
SPEC = JobSpec(command="true").with_defaults(Defaults(cwd="/"))


def expected(version: int) -> list[dict[str, Any]]:
    """What the program that made the database printed with `aqueue list --json`."""
    records: list[dict[str, Any]] = json.loads((FORMATS / f"version-{version}.json").read_text())
    return records


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    version: int = request.param
    return version


@pytest.fixture
def old(version: int, database: str, tmp_path: Path) -> Config:
    """Settings for a database that holds the dump of that version."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute((FORMATS / f"version-{version}.sql").read_text())  # type: ignore[call-overload]
    return Config(database, directory=str(tmp_path / "files"))


def test_there_is_a_dump_of_every_version() -> None:
    assert list(range(1, schema.VERSION + 1)) == VERSIONS


async def test_the_jobs_are_the_same_after_the_migration(old: Config, version: int) -> None:
    assert await prepare_database(old) == (version, schema.VERSION)
    async with open_store(old) as store:
        found = [job.record() async for page in store.find(Query(output=True)) for job in page]
        counts = await store.counts()
    assert [record["id"] for record in found] == JOB_IDS
    for record, before in zip(found, expected(version), strict=True):
        assert json.loads(msgspec.json.encode({name: record[name] for name in before})) == before
    assert {state: count for state, count in counts["default"].items() if count} == {
        State.COMPLETED: 2,
        State.DEAD: 2,
        State.FAILED: 1,
        State.PENDING: 2,
        State.CANCELLED: 1,
    }
    assert await check_database(old, repair=False) == ([], [], len(JOB_IDS))


async def test_a_pool_migrates_the_database_and_claims_what_is_ready(old: Config) -> None:
    async with open_pool_store(old) as store:
        assert (await store.claim(1)).id == "urgent"
        (new,) = await store.add([SPEC])
        assert new.seq == 11
        with pytest.raises(DuplicateJob, match="id gone exists already .it was removed"):
            await store.add([msgspec.structs.replace(SPEC, id="gone")])
        assert (await store.retry("doomed")).state is State.PENDING


async def test_a_command_names_what_migrates_an_older_database(old: Config, version: int) -> None:
    if version == schema.VERSION:
        async with open_store(old) as store:
            assert (await store.get("hello")).stdout == "hello\n"
    else:
        with pytest.raises(StoreError, match=rf"version {version}.*aqueue store init"):
            async with open_store(old):
                pass
