"""Long batches: written in parts, so that memory never holds all their lines, and still all or none."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aqueue.errors import StoreError
from aqueue.jobs.spec import Defaults, JobSpec, NewJob
from aqueue.store.journal.opening import write_all
from aqueue.store.journal.pool_store import JournalPoolStore

COUNT = 12_000
"""More than one write holds."""


def specs(count: int = COUNT) -> Iterator[NewJob]:
    for number in range(count):
        yield JobSpec(command=f"echo {number}").with_defaults(Defaults())


async def count_jobs(store: Path) -> int:
    async with JournalPoolStore(store) as queue:
        return sum(sum(states.values()) for states in (await queue.counts()).values())


async def test_a_long_batch_is_one_batch_with_one_head_in_order(store: Path) -> None:
    async with JournalPoolStore(store) as queue:
        jobs = await queue.add(specs())
        lines = [json.loads(line) for line in (store / "jobs.jsonl").read_bytes().splitlines()[1:]]
        assert lines[0] == {"synced": 0, "type": "batch", "jobs": COUNT}
        assert [line["id"] for line in lines[1:]] == [job.id for job in jobs]
        assert not any("synced" in line for line in lines[1:])
    assert await count_jobs(store) == COUNT


async def test_of_a_long_batch_that_was_cut_off_anywhere_nothing_is_there(store: Path) -> None:
    async with JournalPoolStore(store) as queue:
        await queue.add(specs(1))
        await queue.add(specs())
        data = (store / "jobs.jsonl").read_bytes()
    for length in range(len(data) // 3, len(data), len(data) // 7):
        (store / "jobs.jsonl").write_bytes(data[:length])
        assert await count_jobs(store) == 1


async def test_a_long_batch_that_cannot_be_written_to_its_end_did_not_happen(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 0

    def refusing(fd: int, data: bytes) -> int:
        nonlocal writes
        writes += 1
        if writes == 5:
            raise OSError(28, "No space left on device")
        return write_all(fd, data)

    monkeypatch.setattr("aqueue.store.journal.group_commit.RETRY_EVERY", 0.01)
    async with JournalPoolStore(store) as queue:
        (first,) = await queue.add(specs(1))
        before = (store / "jobs.jsonl").read_bytes()
        monkeypatch.setattr("aqueue.store.journal.file.write_all", refusing)
        with pytest.raises(StoreError, match="No space left"):
            await queue.add(specs())
        assert (store / "jobs.jsonl").read_bytes()[: len(before)] == before
        await queue._journal.writable.wait()
        (last,) = await queue.add([JobSpec(command="true", id="last").with_defaults(Defaults())])
    async with JournalPoolStore(store) as queue:
        assert [job.id for job in (await queue.get(first.id), await queue.get(last.id))] == [first.id, "last"]
    assert await count_jobs(store) == 2


async def test_what_comes_beside_a_long_batch_is_stored_in_order(store: Path) -> None:
    async with JournalPoolStore(store) as queue:
        added = await asyncio.gather(queue.add(specs(3)), queue.add(specs()), queue.add(specs(1)), queue.add(specs()))
        assert [len(jobs) for jobs in added] == [3, COUNT, 1, COUNT]
    assert await count_jobs(store) == 2 * COUNT + 4
