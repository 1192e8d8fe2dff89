"""Damage that no crash explains: refused with its place and the way out, never an empty start over existing data;
`aqueue doctor --repair` keeps what is readable and puts the rest aside."""

import os
from pathlib import Path
from typing import Any

import pytest

BAD = b'{"id":"two","seq":2,"com\x00mand":\n'


@pytest.fixture
def three(broken: Any) -> Any:
    """A store of three jobs, one line each behind the first line."""
    for name in ("one", "two", "three"):
        broken.enqueue(f"echo {name}", id=name)
    return broken


def journal(broken: Any) -> Path:
    return broken.store / "jobs.jsonl"


def damage(broken: Any, number: int, line: bytes) -> bytes:
    """Put `line` in the place of a line of the journal (1 is the first); return what is there then."""
    lines = journal(broken).read_bytes().splitlines(keepends=True)
    lines[number - 1] = line
    journal(broken).write_bytes(b"".join(lines))
    return journal(broken).read_bytes()


def refused(broken: Any, *args: str) -> str:
    status, output = broken.run(*args)
    assert status == 5, output
    assert output.count("\n") == 1
    return output


@pytest.mark.parametrize("args", [("list",), ("enqueue", "true"), ("worker", "start")])
def test_a_bad_line_with_good_ones_behind_it_is_refused_with_its_number_and_the_way_out(
    three: Any, args: tuple[str, ...]
) -> None:
    before = damage(three, 3, BAD)
    output = refused(three, *args)
    assert "line 3" in output
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
def test_a_file_of_another_format_is_refused_and_left_alone(three: Any, line: bytes, says: str) -> None:
    before = damage(three, 1, line)
    assert says in refused(three, "enqueue", "true")
    assert journal(three).read_bytes() == before


@pytest.mark.parametrize("kind", ["symlink", "directory", "pipe", "device"])
def test_what_is_no_regular_file_is_refused(three: Any, kind: str, tmp_path: Path) -> None:
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
def test_what_belongs_to_another_user_is_refused(three: Any, what: str) -> None:
    os.chown(three.store / what, 65534, 65534)
    assert "another user" in refused(three, "list")


def test_the_doctor_finds_a_whole_store_whole(three: Any) -> None:
    three.drain()
    status, output = three.run("doctor")
    assert (status, output) == (0, f"{three.store} is whole: 3 jobs\n")


def test_the_doctor_names_every_problem_and_changes_nothing_unless_told_to(three: Any) -> None:
    before = damage(three, 3, BAD)
    (three.store / "output" / "77-1.out").write_text("whose?")
    for name in ("pool.json", "socket", "jobs.new"):
        (three.store / name).touch()
    status, output = three.run("doctor")
    assert status == 1
    for problem in ("line 3", "77-1.out", "pool.json", "socket", "jobs.new"):
        assert problem in output
    assert journal(three).read_bytes() == before


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_repair_keeps_every_readable_line_and_puts_the_rest_aside(three: Any, number: int) -> None:
    before = damage(three, number, BAD)
    (three.store / "output" / "77-1.out").write_text("whose?")
    status, output = three.run("doctor", "--repair")
    assert status == 0, output
    aside = next(three.store.glob("aside-*"))
    assert str(aside) in output
    assert (aside / "jobs.jsonl").read_bytes() == BAD
    assert (aside / "jobs.jsonl.before").read_bytes() == before
    assert (aside / "77-1.out").read_text() == "whose?"
    left = [name for place, name in enumerate(("one", "two", "three"), 2) if place != number]
    assert sorted(three.jobs()) == sorted(left)
    assert three.run("doctor")[0] == 0
    assert three.enqueue("true", id="new").seq >= 3
    three.drain()


def test_a_repair_of_a_batch_keeps_what_is_left_of_it_and_what_came_after(broken: Any) -> None:
    assert broken.run("enqueue", "-", stdin=None)[0] in (0, 2)
    specs = b"".join(b'{"id":"b%d","command":"true"}\n' % number for number in range(4))
    (broken.folder / "batch").write_bytes(specs)
    with open(broken.folder / "batch", "rb") as batch:
        assert broken.run("enqueue", "-", stdin=batch)[0] == 0
    broken.enqueue("true", id="later")
    damage(broken, 4, BAD)
    assert "line" in refused(broken, "list")
    assert broken.run("doctor", "--repair")[0] == 0
    assert sorted(broken.jobs()) == ["b0", "b2", "b3", "later"]


def test_the_doctor_leaves_the_store_of_a_running_pool_alone(three: Any) -> None:
    three.pool()
    status, output = three.run("doctor", "--repair")
    assert status == 6
    assert "aqueue worker stop" in output
