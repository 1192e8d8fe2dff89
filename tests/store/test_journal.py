"""The journal: what people read with jq and grep, written once for many, and kept short."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from aqueue.jobs.job import Job, Outcome, State
from aqueue.jobs.spec import Defaults, JobSpec, NewJob
from aqueue.store.journal.pool_store import JournalPoolStore
from aqueue.store.protocol import Query


def spec(command: str = "true", **fields: Any) -> NewJob:
    return JobSpec(command=command, **fields).with_defaults(Defaults())


def lines(store: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (store / "jobs.jsonl").read_text().splitlines()]


async def everything(store: JournalPoolStore) -> dict[str, Job]:
    return {job.id: job async for part in store.find(Query(output=True)) for job in part}


async def done(store: JournalPoolStore, count: int = 1, **outcome: Any) -> None:
    """Let `count` waiting jobs run."""
    for _ in range(count):
        await store.settle(await store.claim(1), Outcome(**{"exit_code": 0, **outcome}))


async def test_the_journal_is_lines_of_json_and_the_last_one_for_an_id_holds(store: Path) -> None:
    async with JournalPoolStore(store) as queue:
        await queue.add([spec("echo hello", id="a")])
        await done(queue, stdout="hello\n")
    header, *changes, end = lines(store)
    assert header["aqueue"] == 3
    assert end == {"synced": (store / "jobs.jsonl").read_bytes().rindex(b'{"synced"'), "type": "sync"}
    assert [change.get("state", "pending") for change in changes] == ["pending", "processing", "completed"]
    assert {(change["type"], change["id"]) for change in changes} == {("job", "a")}
    assert changes[-1]["stdout"] == "hello\n"


async def test_a_value_that_equals_its_default_is_not_written(store: Path) -> None:
    plain = {"synced", "type", "id", "seq", "command", "created_at"}
    equal = json.loads('{"queue": "default", "max_retries": 3, "backoff_base": 2.0, "backoff_max": 3600.0, "tags": []}')
    async with JournalPoolStore(store) as queue:
        await queue.add([spec(**equal)])
        assert lines(store)[-1].keys() == plain
        imported = msgspec.json.decode(
            b'{"id":"i","seq":7,"command":"x","created_at":"2026-01-01T00:00:00Z","backoff_base":2.0,"backoff_max":3600.0}',
            type=Job,
        )
        await queue.import_jobs([imported])
        assert lines(store)[-1].keys() == plain
        await queue.add([spec(backoff_base=2.5)])
        assert lines(store)[-1].keys() == {*plain, "backoff_base"}


async def test_values_that_many_jobs_have_are_in_memory_once(store: Path) -> None:
    def shared(jobs: list[Job]) -> bool:
        one, other = jobs
        return all(
            getattr(one, name) is getattr(other, name)
            for name in ("queue", "cwd", "tags", "created_at", "backoff_base", "timeout")
        )

    same = '{"queue": "q", "cwd": "/srv/a", "tags": ["t"], "backoff_base": 1.5, "timeout": 9.5}'
    async with JournalPoolStore(store) as queue:
        assert shared(await queue.add([spec(**json.loads(same)) for _ in range(2)]))
    async with JournalPoolStore(store) as queue:
        assert shared([job async for part in queue.find(Query()) for job in part])


async def test_the_directory_and_its_files_are_private(store: Path) -> None:
    async with JournalPoolStore(store) as queue:
        await queue.add([spec()])
    assert store.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in store.iterdir()} == {0o600}


async def test_an_acknowledged_job_is_in_the_file(store: Path) -> None:
    async with JournalPoolStore(store) as queue:
        for number in range(5):
            await queue.add([spec(id=f"j{number}")])
            assert lines(store)[-1]["id"] == f"j{number}"


async def test_many_who_come_at_once_share_writes_and_fsyncs(store: Path, count_syncs: Callable[[], int]) -> None:
    async with JournalPoolStore(store) as queue:
        before = count_syncs()
        await asyncio.gather(*(queue.add([spec()]) for _ in range(500)))
        assert 1 <= count_syncs() - before <= 20
        assert len(await everything(queue)) == 500
        assert len(lines(store)) == 501


async def test_a_batch_takes_one_fsync(store: Path, count_syncs: Callable[[], int]) -> None:
    async with JournalPoolStore(store) as queue:
        before = count_syncs()
        await queue.add([spec() for _ in range(3000)])
        assert count_syncs() - before == 1


async def test_an_idle_store_writes_nothing(store: Path, count_syncs: Callable[[], int]) -> None:
    async with JournalPoolStore(store) as queue:
        await queue.add([spec(delay=3600)])
        before, size = count_syncs(), (store / "jobs.jsonl").stat().st_size
        await asyncio.sleep(0.1)
        assert (count_syncs(), (store / "jobs.jsonl").stat().st_size) == (before, size)


@pytest.fixture
def count_syncs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many fsyncs of data there have been; each is a real one."""
    calls = 0
    real = os.fdatasync

    def counting(fd: int) -> None:
        nonlocal calls
        calls += 1
        real(fd)

    monkeypatch.setattr(os, "fdatasync", counting)
    return lambda: calls


# Compaction


async def churn(queue: JournalPoolStore, name: str, rounds: int) -> None:
    """Let a job die and put it back, again and again: every round is some lines that are soon dead."""
    for _ in range(rounds):
        await queue.cancel(name)
        await queue.retry(name)


async def compacted(store: Path) -> None:
    """Return when the journal is a new file."""
    path = store / "jobs.jsonl"
    before = path.stat().st_ino
    async with asyncio.timeout(20):
        while path.stat().st_ino == before:
            await asyncio.sleep(0.001)  # there is no event for a rename


async def test_a_journal_stays_within_a_constant_factor_of_what_is_alive(store: Path) -> None:
    async with JournalPoolStore(store) as queue:
        await queue.add([spec(id=f"j{number}", delay=3600) for number in range(20)])
        await asyncio.gather(*(churn(queue, f"j{number}", 400) for number in range(20)))
        assert len(lines(store)) < 12_000
    assert len(lines(store)) < 12_000


@pytest.mark.slow
async def test_compaction_loses_nothing_that_was_there_or_came_meanwhile(store: Path) -> None:
    async with JournalPoolStore(store) as queue:
        await queue.add([spec(f"echo {number}", id=f"out{number}") for number in range(600)])
        for number in range(600):
            await queue.settle(await queue.claim(1), Outcome(exit_code=0, stdout=f"{number}\n", stderr="e" * 300))
        await queue.add([spec(id="churned", delay=3600), spec(id="gone", delay=3600)])
        await queue.remove(["gone", "out7"])
        made: list[str] = []

        async def add_and_run() -> None:
            while True:
                number = len(made)
                await queue.add([spec(id=f"new{number}", queue="new", priority=1)])
                made.append(f"new{number}")
                await queue.settle(await queue.claim(1), Outcome(exit_code=0, stdout=f"new {number}\n"))

        busy = asyncio.create_task(add_and_run())
        churning = asyncio.create_task(churn(queue, "churned", 10_000))
        await compacted(store)
        churning.cancel()
        busy.cancel()
        await asyncio.gather(busy, churning, return_exceptions=True)
        await queue.add([spec(id="last", delay=3600)])
        before = await everything(queue)

    async with JournalPoolStore(store) as queue:
        assert await everything(queue) == before
        assert {name for name in before if name.startswith("new")} >= set(made)
        for number in set(range(600)) - {7}:
            assert before[f"out{number}"].stdout == f"{number}\n"
        for number, name in enumerate(made[:-1]):
            assert before[name].stdout == f"new {number}\n"
        assert not {"gone", "out7"} & before.keys()
        with pytest.raises(Exception, match="never used again"):
            await queue.add([spec(id="out7")])
    assert not list(store.glob("*.new"))


@pytest.mark.slow
async def test_a_new_file_that_a_crash_left_unfinished_does_no_harm(store: Path) -> None:
    async with JournalPoolStore(store) as queue:
        await queue.add([spec(id="a")])
    (store / "jobs.new").write_bytes(b'{"aqueue":1}\n{"id":"half')
    async with JournalPoolStore(store) as queue:
        assert set(await everything(queue)) == {"a"}
        await asyncio.gather(*(queue.add([spec(delay=3600)]) for _ in range(10)))
        await queue.add([spec(id="churned", delay=3600)])
        churning = asyncio.create_task(churn(queue, "churned", 10_000))
        await compacted(store)
        churning.cancel()
        await asyncio.gather(churning, return_exceptions=True)
    async with JournalPoolStore(store) as queue:
        assert len(await everything(queue)) == 12


async def test_a_store_that_closes_while_it_compacts_closes_soon_and_whole(store: Path) -> None:
    async with JournalPoolStore(store) as queue:
        await queue.add([spec(id=f"j{number}", delay=3600) for number in range(100)])
        async with asyncio.timeout(20):
            rounds = asyncio.gather(*(churn(queue, f"j{number}", 10_000) for number in range(100)))
            while not (store / "jobs.new").exists():
                await asyncio.sleep(0)
        rounds.cancel()
        await asyncio.gather(rounds, return_exceptions=True)
        before = set(await everything(queue))
    assert not (store / "jobs.new").exists()
    async with JournalPoolStore(store) as queue:
        assert set(await everything(queue)) == before


async def test_a_closed_store_leaves_no_thread_and_no_file_open(store: Path) -> None:
    process = psutil.Process()
    before = process.num_fds()
    async with JournalPoolStore(store) as queue:
        await queue.add([spec()])
    assert process.num_fds() == before
    assert not any("aqueue" in thread.name for thread in __import__("threading").enumerate())


async def test_output_is_read_from_the_journal_and_not_kept_in_memory(store: Path) -> None:
    async with JournalPoolStore(store) as queue:
        await queue.add([spec(id="a")])
        await done(queue, stdout="x" * 200_000)
        assert len((await queue.wait("a")).stdout or "") == 200_000
        plain = [job async for part in queue.find(Query(states=frozenset({State.COMPLETED}))) for job in part]
        assert plain[0].stdout is None
        assert (await queue.get("a")).stdout == "x" * 200_000
