"""Reading the journal back: a torn tail is cut off and kept, anything else is refused, nothing is guessed."""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aqueue.errors import DamagedStore, StoreError
from aqueue.jobs.job import Job, Outcome
from aqueue.jobs.spec import Defaults, JobSpec, NewJob
from aqueue.store.journal.integrity import IntegrityCheck
from aqueue.store.journal.pool_store import JournalPoolStore
from aqueue.store.protocol import Query

Read = Callable[[Path], Awaitable[tuple[dict[str, Job], list[str]]]]


def spec(**fields: Any) -> NewJob:
    return JobSpec(**{"command": "true", **fields}).with_defaults(Defaults())


@pytest.fixture
async def journal(store: Path) -> Path:
    """The journal of a store with five jobs: two ran, and two came together."""
    async with JournalPoolStore(store) as queue:
        await queue.add([spec(id="a")])
        await queue.settle(await queue.claim(1), Outcome(exit_code=0, stdout="printed\r\n\u2028\n"))
        await queue.add([spec(id="b"), spec(id="c")])
        await queue.settle(await queue.claim(1), Outcome(exit_code=1))
        await queue.add([spec(id="d")])
        await queue.remove(["d"])
        await queue.add([spec(id="e")])
    return store / "jobs.jsonl"


@pytest.fixture
def jobs(caplog: pytest.LogCaptureFixture) -> Read:
    """Reads what the store with a journal holds when it is opened, and what it logs about itself."""

    async def read(journal: Path) -> tuple[dict[str, Job], list[str]]:
        caplog.clear()
        with caplog.at_level("INFO", "aqueue.store.journal"):
            async with JournalPoolStore(journal.parent) as queue:
                found = {job.id: job async for part in queue.find(Query(output=True)) for job in part}
        return found, [record.getMessage() for record in caplog.records if record.name == "aqueue.store.journal"]

    return read


async def refused(journal: Path) -> str:
    """Why the store cannot be opened; nothing may be changed by the attempt."""
    before = {path.name: path.read_bytes() for path in journal.parent.iterdir() if path.is_file()}
    with pytest.raises(DamagedStore) as caught:
        await JournalPoolStore(journal.parent).__aenter__()
    assert {path.name: path.read_bytes() for path in journal.parent.iterdir() if path.is_file()} == before
    return str(caught.value)


async def test_a_whole_journal_is_read_as_it_was_written(journal: Path, jobs: Read) -> None:
    found, notes = await jobs(journal)
    assert {name: job.state for name, job in found.items()} == {
        "a": "completed",
        "b": "failed",
        "c": "pending",
        "e": "pending",
    }
    assert found["a"].stdout == "printed\r\n\u2028\n"
    assert notes == []


async def test_a_missing_and_an_empty_journal_are_an_empty_store(store: Path, jobs: Read) -> None:
    assert await jobs(store / "jobs.jsonl") == ({}, [])
    (store / "jobs.jsonl").write_bytes(b"")
    assert await jobs(store / "jobs.jsonl") == ({}, [])
    assert json.loads((store / "jobs.jsonl").read_text()) == {"aqueue": 3, "next_seq": 1}


@pytest.mark.slow
async def test_a_journal_cut_at_any_byte_holds_what_was_whole_before(journal: Path, jobs: Read) -> None:
    data = journal.read_bytes()
    header = data.index(b"\n") + 1
    for length in range(len(data) - 1, 0, -1):
        journal.write_bytes(data[:length])
        found, notes = await jobs(journal)
        kept = journal.read_bytes()
        assert data.startswith(kept)
        assert header <= len(kept) <= max(header, data.rfind(b"\n", 0, length) + 1)
        torn = list(journal.parent.glob("jobs.jsonl.torn-*"))
        assert b"".join(path.read_bytes() for path in torn) == data[0 if length < header else len(kept) : length]
        for path, note in zip(torn, notes, strict=True):
            assert f"was torn by a crash; it is kept in {path}" in note
            path.unlink()
        assert ("b" in found) == ("c" in found)
        assert all(job.stdout == "printed\r\n\u2028\n" for name, job in found.items() if job.state == "completed")


@pytest.mark.parametrize(
    "tail",
    [
        b'{"id":"x","seq":9',
        b"\0" * 4096,
        b"\xff\xfe garbage",
        b"not json\n",
        b'{"id":"x"}\n',
        b"\0\0\0\n\0\0\n",
        b"\n\0",
    ],
)
async def test_a_bad_end_is_put_aside_and_said_and_the_store_goes_on(journal: Path, tail: bytes, jobs: Read) -> None:
    before = await jobs(journal)
    data = journal.read_bytes()
    journal.write_bytes(data + tail)
    found, notes = await jobs(journal)
    assert found == before[0]
    assert "torn by a crash" in notes[0]
    (torn,) = journal.parent.glob("jobs.jsonl.torn-*")
    assert (torn.read_bytes().lstrip(b"\n"), torn.stat().st_mode & 0o777) == (tail.lstrip(b"\n"), 0o600)
    async with JournalPoolStore(journal.parent) as queue:
        await queue.add([spec(id="after")])
    assert "after" in (await jobs(journal))[0]


async def test_a_batch_whose_end_is_missing_is_not_there_at_all(journal: Path, jobs: Read) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b'"type":"batch"' in line)
    journal.write_bytes(b"".join(lines[: at + 2]))
    found, notes = await jobs(journal)
    assert set(found) == {"a"}
    assert len(notes) == 1


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 20,
        b"not json",
        b'{"id":"a","seq":"one"}',
        b'{"type":"removal","id":1}',
        b'{"type":"rumour"}',
        b'{"id":"a"}',
        b"\xff",
    ],
)
async def test_damage_with_good_lines_behind_it_is_refused_with_the_lines_number(
    journal: Path, damage: bytes, jobs: Read
) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], damage + b"\n", *lines[4:]]))
    why = await refused(journal)
    assert "line 4 " in why
    assert "aqueue doctor" in why
    journal.write_bytes(b"".join(lines))
    assert len((await jobs(journal))[0]) == 4


async def test_damage_in_the_very_last_line_of_a_store_that_was_closed_is_refused_as_well(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:-2], lines[-2].replace(b'"seq"', b'"s\0q"'), lines[-1]]))
    assert f"line {len(lines) - 1} " in await refused(journal)


@pytest.mark.parametrize("said", [b"7", b"40"])
async def test_a_batch_that_says_it_is_longer_than_it_is_does_not_swallow_what_is_behind_it(
    journal: Path, said: bytes
) -> None:
    data = journal.read_bytes()
    journal.write_bytes(data.replace(b'"jobs":2', b'"jobs":' + said))
    number = data[: data.index(b'"jobs":2')].count(b"\n") + 1
    assert f"line {number} " in await refused(journal)


async def test_a_compacted_journal_whose_end_is_torn_opens_to_what_was_synced(store: Path, jobs: Read) -> None:
    journal = store / "jobs.jsonl"
    async with JournalPoolStore(store) as queue:
        await queue.add([spec(id=f"j{number}", max_retries=0) for number in range(5)])
        for number in range(5):
            await queue.settle(await queue.claim(1), Outcome(exit_code=1, stdout="printed\n"))
            await queue.retry(f"j{number}")
        await queue._compact()  # moves lines with output as they are
        size = journal.stat().st_size
        before = {job.id: job async for part in queue.find(Query(output=True)) for job in part}
        await queue.add([spec(id=f"lost{number}", env={"X": "x" * 9000}) for number in range(2)])
        data = journal.read_bytes()
    journal.write_bytes(data[: size + 4096] + bytes(4096) + data[size + 8192 :])
    found, notes = await jobs(journal)
    assert "torn" in notes[0]
    assert found == before


async def test_damage_in_a_large_journal_is_refused_with_the_lines_number(store: Path) -> None:
    async with JournalPoolStore(store) as queue:
        await queue.add([spec(id=f"j{number}") for number in range(5000)])
    journal = store / "jobs.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[3999] = lines[3999][:-10] + b"\n"
    journal.write_bytes(b"".join(lines))
    assert "line 4000 " in await refused(journal)


async def test_a_newer_format_is_refused_and_named(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes().replace(b'{"aqueue":3', b'{"aqueue":4', 1))
    assert "format 4, from a newer aqueue" in await refused(journal)


@pytest.mark.parametrize("first", [b"hello\n", b'{"id":"a"}\n', b"[]\n", b"\0\0\0\0\n"])
async def test_a_file_that_is_no_journal_is_refused(journal: Path, first: bytes) -> None:
    journal.write_bytes(first + journal.read_bytes())
    assert "not an aqueue journal" in await refused(journal)


async def test_something_else_in_the_place_of_the_journal_is_refused(store: Path, tmp_path: Path) -> None:
    store.mkdir(mode=0o700)
    journal = store / "jobs.jsonl"
    journal.mkdir()
    with pytest.raises(StoreError):
        await JournalPoolStore(store).__aenter__()
    journal.rmdir()
    journal.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        await JournalPoolStore(store).__aenter__()
    assert not (tmp_path / "elsewhere").exists()


async def test_a_store_that_others_can_write_in_is_refused_with_what_mends_it(store: Path) -> None:
    store.mkdir()
    store.chmod(0o777)
    with pytest.raises(StoreError, match=f"chmod 700 {store}"):
        await JournalPoolStore(store).__aenter__()


async def test_a_store_that_could_not_be_opened_is_not_locked(journal: Path, jobs: Read) -> None:
    data = journal.read_bytes()
    journal.write_bytes(b"hello\n" + data)
    await refused(journal)
    before = len(os.listdir("/proc/self/fd"))
    await refused(journal)
    assert len(os.listdir("/proc/self/fd")) == before
    journal.write_bytes(data)
    assert len((await jobs(journal))[0]) == 4


@pytest.mark.parametrize("blank", [b"\n", b"\n\n", b" \r\n"])
async def test_blank_lines_are_no_damage_wherever_they_are(journal: Path, blank: bytes, jobs: Read) -> None:
    before = (await jobs(journal))[0]
    lines = journal.read_bytes().splitlines(keepends=True)
    for at in range(1, len(lines) + 1):
        journal.write_bytes(b"".join([*lines[:at], blank, *lines[at:]]))
        assert await jobs(journal) == (before, [])
        assert IntegrityCheck(journal.parent).problems == []


@pytest.mark.parametrize("output", ["", "printed\n"])
async def test_blank_lines_do_not_shift_the_number_of_a_damaged_one(store: Path, output: str, jobs: Read) -> None:
    async with JournalPoolStore(store) as queue:
        for name in ("a", "b", "c"):
            await queue.add([spec(id=name)])
            await queue.settle(await queue.claim(1), Outcome(exit_code=0, stdout=output))
    journal = store / "jobs.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"\n", *lines[2:]]))
    assert {job.stdout for job in (await jobs(journal))[0].values()} == {output}
    journal.write_bytes(b"".join([*lines[:2], b"\n", b"bad\n", *lines[2:]]))
    assert "line 4 " in await refused(journal)


async def test_blank_lines_behind_a_bad_end_do_not_make_it_damage(journal: Path, jobs: Read) -> None:
    before = (await jobs(journal))[0]
    journal.write_bytes(journal.read_bytes() + b"garbage\n\n\n")
    found, notes = await jobs(journal)
    assert found == before
    assert "torn by a crash" in notes[0]


async def test_lines_that_are_empty_are_no_damage_wherever_they_are(journal: Path, jobs: Read) -> None:
    before = (await jobs(journal))[0]
    lines = journal.read_bytes().splitlines(keepends=True)
    for at in range(1, len(lines) + 1):
        journal.write_bytes(b"".join([*lines[:at], b"\n", *lines[at:]]))
        assert await jobs(journal) == (before, [])
    journal.write_bytes(b"".join(lines[:3]) + b"\n")
    async with JournalPoolStore(journal.parent) as queue:
        await queue.add([spec(id="x"), spec(id="y")])
    assert (await jobs(journal))[0].keys() >= {"a", "x", "y"}


async def test_the_line_that_is_named_is_that_of_an_editor(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    plain = [lines[1], b'{"synced":9,"type":"sync"}\n'] * 3000
    journal.write_bytes(b"".join([lines[0], *plain, b"{\n", b'{"synced":999999,"type":"sync"}\n']))
    assert "line 6002 " in await refused(journal)


async def test_a_job_on_two_lines_is_damage_as_it_would_be_among_others(journal: Path) -> None:
    first, line, *_, end = journal.read_bytes().splitlines(keepends=True)
    torn_apart = line.replace(b',"id"', b',\n"id"')
    journal.write_bytes(b"".join([first, torn_apart, line, end]))
    assert "line 2 " in await refused(journal)


async def test_ids_and_numbers_that_were_used_stay_used(journal: Path) -> None:
    async with JournalPoolStore(journal.parent) as queue:
        seen = {json.loads(line).get("seq", 0) for line in journal.read_bytes().splitlines()}
        (job,) = await queue.add([spec()])
        assert job.seq > max(seen)
