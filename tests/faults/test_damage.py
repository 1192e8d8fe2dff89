"""Damage that no crash explains: refused with its place and the way out, never an empty start over existing data;
`aqueue doctor --repair` keeps what is readable and puts the rest aside."""

import json
import os
from pathlib import Path

import pytest

from tests.faults.conftest import Broken

BAD = b'{"type":"job","id":"two","seq":2,"com\x00mand":\n'


@pytest.fixture
def three(broken: Broken) -> Broken:
    """A store of three jobs, in the lines 2, 4 and 6: behind each is one that says that it is on the disk."""
    for name in ("one", "two", "three"):
        broken.enqueue(f"echo {name}", id=name)
    return broken


def journal(broken: Broken) -> Path:
    return broken.store / "jobs.jsonl"


def damage(broken: Broken, number: int, line: bytes) -> bytes:
    """Put `line` in the place of a line of the journal (1 is the first); return what is there then."""
    lines = journal(broken).read_bytes().splitlines(keepends=True)
    lines[number - 1] = line
    journal(broken).write_bytes(b"".join(lines))
    return journal(broken).read_bytes()


def add_orphaned_output(broken: Broken) -> None:
    (broken.store / "output").mkdir(exist_ok=True)
    (broken.store / "output" / "77-1.out").write_text("whose?")


def refused(broken: Broken, *args: str) -> str:
    status, output = broken.run(*args)
    assert status == 5, output
    assert output.count("\n") == 1
    return output


@pytest.mark.parametrize("args", [("list",), ("enqueue", "true"), ("worker", "start")])
def test_a_bad_line_with_good_ones_behind_it_is_refused_with_its_number_and_the_way_out(
    three: Broken, args: tuple[str, ...]
) -> None:
    before = damage(three, 4, BAD)
    output = refused(three, *args)
    assert "line 4" in output
    assert "aqueue doctor" in output
    assert journal(three).read_bytes() == before


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"aqueue":99}\n', "newer aqueue"),
        (b'{"name":"somebody else\'s"}\n', "not an aqueue journal"),
        (b"\x7fELF\n", "not an aqueue journal"),
        (b"\n", "not an aqueue journal"),
    ],
)
def test_a_file_of_another_format_is_refused_and_left_alone(three: Broken, line: bytes, says: str) -> None:
    before = damage(three, 1, line)
    assert says in refused(three, "enqueue", "true")
    assert journal(three).read_bytes() == before


@pytest.mark.parametrize("kind", ["symlink", "directory", "pipe", "device"])
def test_what_is_no_regular_file_is_refused(three: Broken, kind: str, tmp_path: Path) -> None:
    elsewhere = journal(three).rename(tmp_path / "elsewhere")
    before = elsewhere.read_bytes()
    if kind == "symlink":
        journal(three).symlink_to(elsewhere)
    elif kind == "directory":
        journal(three).mkdir()
    elif kind == "pipe":
        os.mkfifo(journal(three))
    elif os.getuid() == 0:
        os.mknod(journal(three), 0o20600, os.makedev(1, 3))
    else:
        pytest.skip("needs the right to make a device")
    assert str(journal(three)) in refused(three, "enqueue", "true")
    assert refused(three, "doctor", "--repair")
    assert elsewhere.read_bytes() == before


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to give a file away")
@pytest.mark.parametrize("what", ["jobs.jsonl", "."])
def test_what_belongs_to_another_user_is_refused(three: Broken, what: str) -> None:
    os.chown(three.store / what, 65534, 65534)
    assert "another user" in refused(three, "list")


def test_the_doctor_finds_a_whole_store_whole(three: Broken) -> None:
    three.drain()
    status, output = three.run("doctor")
    assert (status, output) == (0, f"{three.store} is whole: 3 jobs\n")


def test_the_doctor_names_every_problem_and_changes_nothing_unless_told_to(three: Broken) -> None:
    before = damage(three, 4, BAD)
    add_orphaned_output(three)
    for name in ("pool.json", "socket", "jobs.new"):
        (three.store / name).touch()
    status, output = three.run("doctor")
    assert status == 1
    for problem in ("line 4", "77-1.out", "pool.json", "socket", "jobs.new"):
        assert problem in output
    assert journal(three).read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 4, 6])
def test_a_repair_keeps_every_readable_line_and_puts_the_rest_aside(three: Broken, number: int) -> None:
    before = damage(three, number, BAD)
    add_orphaned_output(three)
    status, output = three.run("doctor", "--repair")
    assert status == 0, output
    aside = next(three.store.glob("aside-*"))
    assert str(aside) in output
    assert (aside / "jobs.jsonl").read_bytes() == BAD
    assert (aside / "jobs.jsonl.before").read_bytes() == before
    assert (aside / "77-1.out").read_text() == "whose?"
    left = [name for place, name in ((2, "one"), (4, "two"), (6, "three")) if place != number]
    assert sorted(three.jobs()) == sorted(left)
    assert three.run("doctor")[0] == 0
    assert three.enqueue("true", id="new").seq >= 3
    three.drain()


def test_a_repair_of_a_batch_keeps_what_is_left_of_it_and_what_came_after(broken: Broken) -> None:
    enqueue_batch(broken)
    broken.enqueue("true", id="later")
    damage(broken, 4, BAD)
    assert "line" in refused(broken, "list")
    assert broken.run("doctor", "--repair")[0] == 0
    assert sorted(broken.jobs()) == ["b0", "b2", "b3", "later"]


def enqueue_batch(broken: Broken) -> None:
    specs = [{"id": f"b{number}", "command": "true"} for number in range(4)]
    assert broken.run("enqueue", json.dumps(specs))[0] == 0


def test_a_repair_of_a_batch_that_says_it_is_longer_than_it_is_keeps_every_job(broken: Broken) -> None:
    pool = broken.pool("--queue", "none")
    enqueue_batch(broken)
    broken.enqueue("true", id="later")
    pool.kill()
    pool.wait()
    data = journal(broken).read_bytes()
    journal(broken).write_bytes(data.replace(b'"jobs":4', b'"jobs":9'))
    assert "line 3" in refused(broken, "list")
    status, output = broken.run("doctor")
    assert status == 1
    assert "line 3 " in output
    assert broken.run("doctor", "--repair")[0] == 0
    assert sorted(broken.jobs()) == ["b0", "b1", "b2", "b3", "later"]
    assert broken.run("doctor")[0] == 0


def test_a_repair_of_a_torn_end_applies_no_half_of_a_batch(broken: Broken) -> None:
    broken.enqueue("true", id="kept")
    enqueue_batch(broken)
    lines = journal(broken).read_bytes().splitlines(keepends=True)
    assert b"b2" in lines[6]
    journal(broken).write_bytes(b"".join(lines[:6]) + lines[6][:50])
    status, output = broken.run("doctor")
    assert status == 1
    assert "torn by a crash" in output
    assert broken.run("doctor", "--repair")[0] == 0
    assert list(broken.jobs()) == ["kept"]
    (aside,) = broken.store.glob("aside-*")
    assert (aside / "jobs.jsonl").read_bytes() == b"".join(lines[3:6]) + lines[6][:50]


def test_the_doctor_leaves_the_store_of_a_running_pool_alone(three: Broken) -> None:
    three.pool()
    status, output = three.run("doctor", "--repair")
    assert status == 6
    assert "aqueue worker stop" in output
