"""A power cut leaves some prefix of the journal, and anything behind it: what was acknowledged is there, nothing
half-applied, and the torn tail is kept beside the file."""

import asyncio
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aqueue.errors import DamagedStore
from aqueue.jobs.job import Job, Outcome
from aqueue.jobs.spec import Defaults, JobSpec, NewJob
from aqueue.settings.config import Config
from aqueue.store.journal.opening import open_journal
from aqueue.store.open import open_pool_store
from aqueue.store.protocol import PoolStore
from tests.faults.conftest import Broken

Summary = dict[str, tuple[Any, ...]]
TAILS = {
    "nothing": b"",
    "zeros": bytes(700),
    "garbage": random.Random(3).randbytes(500) + b"\n" + random.Random(4).randbytes(300),
    "lines": b'{"type":"job","id":3}\n}{\n\n{"type":"removal"}\n',
}


def spec(**fields: Any) -> NewJob:
    return JobSpec(command="echo x", **fields).with_defaults(Defaults(backoff_base=0))


def summary_of(path: Path) -> tuple[Summary, Path | None]:
    """What opening the journal finds, and where it put a torn tail."""
    fd, contents = open_journal(path)
    os.close(fd)
    jobs = {job.id: (job.state, job.attempts, len(job.history), job.command) for job in contents.jobs.values()}
    removed = dict.fromkeys(contents.removed, ("removed",))
    return {**jobs, **removed}, contents.torn


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[int, Summary]]:
    """A journal, and what it must hold, by its length after each acknowledgement."""
    return asyncio.run(record(tmp_path_factory.mktemp("recorded")))


async def record(path: Path) -> tuple[bytes, dict[int, Summary]]:
    journal, copy = path / "store" / "jobs.jsonl", path / "copy"
    moments: dict[int, Summary] = {}

    def acknowledged(*_: object) -> None:
        copy.write_bytes(journal.read_bytes())
        moments[journal.stat().st_size] = summary_of(copy)[0]

    async with open_pool_store(Config(str(path / "store"), max_interruptions=2)) as store:
        acknowledged()
        await store.add([spec(id="one")])
        acknowledged()
        await store.add([spec(id=f"batch{number}", priority=-number) for number in range(4)])
        acknowledged()
        for outcome in (
            Outcome(exit_code=0, stdout="é\n"),
            Outcome(exit_code=3, stderr="no"),
            Outcome(interrupted=True),
        ):
            job = await store.claim(1)
            acknowledged()
            await settled(store, job, outcome)
            acknowledged()
        await store.cancel("batch3")
        acknowledged()
        await store.remove(["batch3"])
        acknowledged()
    acknowledged()
    return journal.read_bytes(), moments


async def settled(store: PoolStore, job: Job, outcome: Outcome) -> None:
    """Settle an attempt, and return once that is durable."""
    durable = asyncio.Event()
    unsubscribe = store.subscribe(lambda _: durable.set())
    await store.settle(job, outcome)
    await durable.wait()
    unsubscribe()


@pytest.mark.slow
@pytest.mark.parametrize("tail", TAILS)
async def test_every_prefix_of_the_journal_opens_to_what_was_acknowledged_by_then(
    recorded: tuple[bytes, dict[int, Summary]], tail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "aqueue.store.journal.opening.fdatasync", lambda _: None
    )  # thousands of openings, no power to lose
    data, moments = recorded
    path = tmp_path / "jobs.jsonl"
    for length in range(min(moments), len(data) + 1):
        path.write_bytes(data[:length] + TAILS[tail])
        found, torn = summary_of(path)
        whole = max(size for size in moments if size <= length)
        assert found == moments[whole], f"{length} bytes"
        assert path.read_bytes() == data[:whole]
        cut = data[whole:length] + TAILS[tail]
        assert (torn.read_bytes() if torn else b"") == cut
        if torn:
            assert torn.stat().st_mode & 0o777 == 0o600
            torn.unlink()


@pytest.fixture(scope="module")
def unsynced(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """A journal of many pages, and how much of it had been synced when the rest was appended."""
    return asyncio.run(record_unsynced(tmp_path_factory.mktemp("unsynced") / "store"))


async def record_unsynced(path: Path) -> tuple[bytes, int]:
    journal, disk = path / "jobs.jsonl", threading.Event()
    disk.set()

    def slow(fd: int) -> None:
        disk.wait()
        os.fdatasync(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aqueue.store.journal.file.fdatasync", slow)
        async with open_pool_store(Config(str(path))) as store:
            for number in range(8):
                await store.add([spec(id=f"old{number}", env={"X": "x" * 200})])
            await store.remove(["old3"])
            await store.add([spec(id=f"batch{number}") for number in range(9)])
            synced = journal.stat().st_size
            disk.clear()
            async with asyncio.TaskGroup() as tasks:
                for specs in ([spec(id="a")], [spec(id=f"new{number}") for number in range(30)], [spec(id="b")]):
                    size = journal.stat().st_size
                    tasks.create_task(store.add(specs))
                    while journal.stat().st_size == size:  # each is a write of its own, and none is synced
                        await asyncio.sleep(0)
                data = journal.read_bytes()
                disk.set()
    return data, synced


def without(data: bytes, start: int, lost: int, page: int = 512) -> bytes:
    """The data with zeros in those pages from `start` on whose bit in `lost` is set."""
    kept = bytearray(data)
    for number, at in enumerate(range(start - start % page, len(data), page)):
        if lost >> number & 1:
            begin, end = max(at, start), min(at + page, len(data))
            kept[begin:end] = bytes(end - begin)
    return bytes(kept)


def test_whichever_pages_of_what_was_not_synced_are_lost_the_rest_is_as_it_was(
    unsynced: tuple[bytes, int], tmp_path: Path
) -> None:
    data, synced = unsynced
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(data[:synced])
    before = summary_of(path)[0]
    pages = (len(data) - synced) // 512 + 2
    chance = random.Random(5)
    single = [1 << number for number in range(pages)]
    for lost in (*single, *(~bit for bit in single), *(chance.getrandbits(pages) for _ in range(100))):
        broken = without(data, synced, lost)
        path.write_bytes(broken)
        found, torn = summary_of(path)
        assert before.items() <= found.items()
        new = found.keys() - before.keys()
        assert len([name for name in new if name.startswith("new")]) in (0, 30)
        assert path.read_bytes() + (torn.read_bytes() if torn else b"") == broken
        assert (torn is None) == (len(new) == 32)
        if torn:
            torn.unlink()


def test_a_lost_page_of_what_was_synced_is_refused_with_its_line(unsynced: tuple[bytes, int], tmp_path: Path) -> None:
    data, synced = unsynced
    path = tmp_path / "jobs.jsonl"
    for start in range(512, synced - 512, 128):
        broken = data[:start] + bytes(128) + data[start + 128 :]
        path.write_bytes(broken)
        with pytest.raises(DamagedStore, match=rf"line {data[:start].count(10) + 1} \(byte"):
            open_journal(path)
        assert path.read_bytes() == broken


def test_a_batch_that_says_it_is_longer_than_it_is_takes_nothing_that_was_synced_with_it(
    unsynced: tuple[bytes, int], tmp_path: Path
) -> None:
    data, _ = unsynced
    path = tmp_path / "jobs.jsonl"
    behind = data.index(b"\n", data.index(b'"id":"a"')) + 1
    path.write_bytes(data[:behind].replace(b'"jobs":9', b'"jobs":99'))
    with pytest.raises(DamagedStore, match=r"line 11 \(byte \d+\): 89 of the lines that belong together are missing"):
        open_journal(path)


@pytest.mark.parametrize("length", range(1, 14))
def test_a_store_whose_very_first_line_was_cut_off_opens_empty(
    recorded: tuple[bytes, dict[int, Summary]], length: int, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(recorded[0][:length])
    found, _ = summary_of(path)
    assert found == {}
    assert summary_of(path) == ({}, None)


def test_the_pool_says_in_one_line_where_the_torn_tail_is(broken: Broken, eventually: Callable[..., Any]) -> None:
    broken.enqueue("true", id="kept")
    with open(broken.store / "jobs.jsonl", "ab") as journal:
        journal.write(b'{"id":"half')
    broken.pool()
    torn = next(broken.store.glob("jobs.jsonl.torn-*"))
    lines = eventually(lambda: [line for line in broken.log().splitlines() if str(torn) in line], "the note")
    assert len(lines) == 1
    assert torn.read_bytes() == b'{"id":"half'
    assert broken.ended("kept").exit_code == 0
