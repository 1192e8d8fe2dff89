"""A real journal of each format there ever was: all of it is read, it goes on in today's, and it can be repaired."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aqueue.errors import DamagedStore, DuplicateJob, StoreError
from aqueue.jobs.job import Job, Outcome, State
from aqueue.jobs.spec import Defaults, JobSpec, NewJob
from aqueue.store.journal.integrity import IntegrityCheck
from aqueue.store.journal.pool_store import JournalPoolStore
from aqueue.store.protocol import Query

FILES = Path(__file__).with_name("formats")
TODAY = 3
OLD = [version for version in (1, 2, 3) if version < TODAY]
BACKOFF = {"backoff_base": 2.0, "backoff_max": 3600.0, "backoff_jitter": 0.0}


def spec(**fields: Any) -> NewJob:
    return JobSpec(**{"command": "true", **fields}).with_defaults(Defaults())


def copied(store: Path, version: int) -> Path:
    """A store with the journal of this format."""
    store.mkdir(mode=0o700)
    journal = store / "jobs.jsonl"
    shutil.copy(FILES / f"format-{version}.jsonl", journal)
    return journal


@pytest.fixture(params=[1, 2, 3])
def journal(store: Path, request: pytest.FixtureRequest) -> Path:
    return copied(store, request.param)


@pytest.fixture(params=OLD)
def old(store: Path, request: pytest.FixtureRequest) -> Path:
    return copied(store, request.param)


def told(journal: Path) -> dict[str, dict[str, Any]]:
    """The jobs by id, as the lines of the journal say for who reads them without this program."""
    jobs: dict[str, dict[str, Any]] = {}
    for line in map(json.loads, journal.read_text().splitlines()):
        if line.get("removed") or line.get("type") == "removal":
            del jobs[line.get("removed") or line["id"]]
        elif "seq" in line:
            jobs[line["id"]] = {**BACKOFF, **line}
            jobs[line["id"]].pop("synced", None)
            jobs[line["id"]].pop("type", None)
    return jobs


def record(job: Job) -> dict[str, Any]:
    """A job as the line of a journal that leaves out no default of the backoff."""
    line: dict[str, Any] = {**BACKOFF, **json.loads(msgspec.json.encode(job))}
    del line["type"]
    return line


async def everything(store: JournalPoolStore) -> dict[str, Job]:
    return {job.id: job async for part in store.find(Query(output=True)) for job in part}


async def found(journal: Path) -> dict[str, dict[str, Any]]:
    async with JournalPoolStore(journal.parent) as store:
        return {job_id: record(job) for job_id, job in (await everything(store)).items()}


def header(journal: Path) -> Any:
    return json.loads(journal.read_bytes().splitlines()[0])


async def test_every_format_opens_with_all_jobs_their_attempts_and_their_output(journal: Path) -> None:
    async with JournalPoolStore(journal.parent) as store:
        jobs = await everything(store)
    assert {job_id: (job.state, job.attempts, job.exit_code, job.stdout) for job_id, job in jobs.items()} == {
        "hello": (State.COMPLETED, 1, 0, "hello\n"),
        "doomed": (State.DEAD, 2, 3, ""),
        "killed": (State.DEAD, 1, None, ""),
        "j0004": (State.COMPLETED, 1, 0, ""),
        "j0005": (State.COMPLETED, 1, 0, "one\n"),
        "j0006": (State.COMPLETED, 1, 0, ""),
        "stopped": (State.CANCELLED, 0, None, None),
        "later": (State.PENDING, 0, None, None),
        "delayed": (State.PENDING, 0, None, None),
        "retried": (State.FAILED, 1, 7, ""),
    }
    assert (jobs["hello"].stderr, jobs["doomed"].stderr, jobs["killed"].signal) == ("oh dear\n", "no such luck\n", 9)
    assert len(jobs["doomed"].history) == 2
    assert {job_id: record(job) for job_id, job in jobs.items()} == told(journal)


async def test_a_journal_that_is_only_read_stays_as_it_is(journal: Path) -> None:
    before = journal.read_bytes()
    async with JournalPoolStore(journal.parent) as store:
        await store.get("hello")
        await store.next_due()
    assert journal.read_bytes() == before


async def test_the_first_change_rewrites_an_old_journal_and_loses_nothing(old: Path) -> None:
    before = told(old)
    async with JournalPoolStore(old.parent) as store:
        (new,) = await store.add([spec()])
        assert (await store.get("hello")).stdout == "hello\n"
        assert {**(await found_in(store)), new.id: None} == {**before, new.id: None}
    assert header(old)["aqueue"] == TODAY
    kinds = {json.loads(line)["type"] for line in old.read_bytes().splitlines()[1:]}
    assert kinds == {"job", "removal", "sync"}
    assert {**(await found(old)), new.id: None} == {**before, new.id: None}
    assert new.seq == 12


async def found_in(store: JournalPoolStore) -> dict[str, dict[str, Any]]:
    return {job_id: record(job) for job_id, job in (await everything(store)).items()}


async def test_what_runs_first_on_an_old_journal_is_recorded(old: Path) -> None:
    async with JournalPoolStore(old.parent) as store:
        await store.retry("killed")
        for _ in range(2):  # the other one waited for its retry
            await store.settle(await store.claim(1), Outcome(exit_code=0, stdout="now it works\n"))
    async with JournalPoolStore(old.parent) as store:
        job = await store.get("killed")
        assert (job.state, job.stdout, len(job.history)) == (State.COMPLETED, "now it works\n", 2)


async def test_a_rewritten_journal_has_no_value_that_equals_its_default(old: Path) -> None:
    async with JournalPoolStore(old.parent) as store:
        await store.cancel("later")
    lines = {line["id"]: line for line in map(json.loads, old.read_bytes().splitlines()) if line.get("seq")}
    assert {name: lines["hello"].get(name) for name in BACKOFF} == dict.fromkeys(BACKOFF)
    assert lines["j0006"]["backoff_max"] == 60.0


async def test_ids_that_are_gone_stay_gone_in_every_format(journal: Path) -> None:
    async with JournalPoolStore(journal.parent) as store:
        with pytest.raises(DuplicateJob, match="never used again"):
            await store.add([spec(id="gone")])
        await store.add([spec(id="new")])
    async with JournalPoolStore(journal.parent) as store:
        with pytest.raises(DuplicateJob, match="never used again"):
            await store.add([spec(id="gone")])


async def test_every_format_can_be_compacted(journal: Path) -> None:
    before = told(journal)
    async with JournalPoolStore(journal.parent) as store:
        await store._compact()
        assert await found_in(store) == before
    assert await found(journal) == before


async def test_an_old_journal_stays_in_service_while_it_cannot_be_rewritten(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, jobs, replace = old.read_bytes(), told(old), os.replace
    outage = True

    def refusing(source: Path, target: Path) -> None:
        if outage:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    monkeypatch.setattr("aqueue.store.journal.group_commit.RETRY_EVERY", 0.01)
    async with JournalPoolStore(old.parent) as store:
        with pytest.raises(StoreError, match="No space left"):
            await store.add([spec(id="refused")])
        assert "No space left" in (store.trouble or "")
        assert await found_in(store) == jobs
        assert old.read_bytes() == before
        outage = False
        await store._journal.writable.wait()
        await store.add([spec(id="accepted")])
    assert (await found(old)).keys() == {*jobs, "accepted"}


@pytest.mark.parametrize("version", [2, 3])
async def test_damage_in_a_journal_that_says_what_was_synced_is_refused_by_that(store: Path, version: int) -> None:
    journal = copied(store, version)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b"\0\0\n", *lines[4:]]))
    with pytest.raises(DamagedStore, match="line 4 "):
        await JournalPoolStore(store).__aenter__()
    unsynced = [line for line in lines[4:] if not line.startswith(b'{"synced"')]
    journal.write_bytes(b"".join([*lines[:3], b"\0\0\n", *unsynced]))
    assert (await found(journal)).keys() == {"hello"}


async def test_in_format_1_any_good_line_behind_damage_has_it_refused(store: Path) -> None:
    journal = copied(store, 1)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:-2], b"\0\0\n", lines[-1]]))
    with pytest.raises(DamagedStore, match=f"line {len(lines) - 1} "):
        await JournalPoolStore(store).__aenter__()
    journal.write_bytes(b"".join([*lines[:-1], b"\0\0\n"]))
    assert len(await found(journal)) == 10


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_a_batch_whose_end_is_missing_is_not_there_at_all_in_any_format(store: Path, version: int) -> None:
    journal = copied(store, version)
    lines = journal.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b'"together":2' in line or b'"type":"batch"' in line)
    journal.write_bytes(b"".join(lines[: at + 2]))
    assert (await found(journal)).keys() == {"hello", "doomed", "killed", "j0004"}


async def test_the_doctor_finds_every_format_whole(journal: Path) -> None:
    check = IntegrityCheck(journal.parent)
    assert (check.problems, len(check.seqs)) == ([], 10)


@pytest.mark.parametrize("number", [1, 3])
async def test_a_repair_of_any_format_leaves_a_journal_of_todays_with_all_that_was_readable(
    journal: Path, number: int
) -> None:
    before, whole = told(journal), journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    lines[number - 1] = b"\0\0\0\n"
    journal.write_bytes(b"".join(lines))
    check = IntegrityCheck(journal.parent)
    assert f"line {number} " in check.problems[0]
    aside = check.repair()
    assert aside is not None
    assert (aside / "jobs.jsonl").read_bytes() == b"\0\0\0\n"
    assert header(journal) == {"aqueue": TODAY, "next_seq": 12}
    assert await found(journal) == before
    assert IntegrityCheck(journal.parent).problems == []
