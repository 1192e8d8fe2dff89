"""A power cut leaves some prefix of the journal, and anything behind it: what was acknowledged is there, nothing
half-applied, and the torn tail is kept beside the file."""

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aqueue.config import Config
from aqueue.job import Outcome
from aqueue.spec import Defaults, JobSpec
from aqueue.store import open_store
from aqueue.store.recovery import open_journal

Summary = dict[str, tuple[Any, ...]]
TAILS = {
    "nothing": b"",
    "zeros": bytes(700),
    "garbage": random.Random(3).randbytes(500) + b"\n" + random.Random(4).randbytes(300),
    "lines": b'{"id": 3}\n}{\n\n{"removed": \n',
}


def spec(**fields: Any) -> JobSpec:
    return JobSpec(command="echo x", **fields).stamped(Defaults(backoff_base=0))


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

    async with open_store(Config(str(path / "store"), max_interruptions=2)) as store:
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
            durable = asyncio.Event()
            deaf = store.listen(lambda _, durable=durable: durable.set())
            await store.settle(job, outcome)
            await durable.wait()
            deaf()
            acknowledged()
        await store.cancel("batch3")
        acknowledged()
        await store.remove(["batch3"])
        acknowledged()
    return journal.read_bytes(), moments


@pytest.mark.parametrize("tail", TAILS)
async def test_every_prefix_of_the_journal_opens_to_what_was_acknowledged_by_then(
    recorded: tuple[bytes, dict[int, Summary]], tail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqueue.store.recovery.fdatasync", lambda _: None)  # thousands of openings, no power to lose
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


@pytest.mark.parametrize("length", range(1, 14))
def test_a_store_whose_very_first_line_was_cut_off_opens_empty(
    recorded: tuple[bytes, dict[int, Summary]], length: int, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(recorded[0][:length])
    found, _ = summary_of(path)
    assert found == {}
    assert summary_of(path) == ({}, None)


def test_the_pool_says_in_one_line_where_the_torn_tail_is(broken: Any, eventually: Callable[..., Any]) -> None:
    broken.enqueue("true", id="kept")
    with open(broken.store / "jobs.jsonl", "ab") as journal:
        journal.write(b'{"id":"half')
    broken.pool()
    torn = next(broken.store.glob("jobs.jsonl.torn-*"))
    lines = eventually(lambda: [line for line in broken.log().splitlines() if str(torn) in line], "the note")
    assert len(lines) == 1
    assert torn.read_bytes() == b'{"id":"half'
    assert broken.ended("kept").exit_code == 0
