"""The file for the status lines of one worker slot."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aqueue.attempts.status_file import StatusFile


@pytest.fixture
def file(tmp_path: Path) -> Iterator[StatusFile]:
    file = StatusFile(tmp_path / "run.1")
    yield file
    file.close()


def test_what_attempts_write_one_after_the_other_is_kept_and_its_end_read(file: StatusFile, tmp_path: Path) -> None:
    for number in range(3):
        os.write(file.for_next_attempt(), f"r.1.{number}-1 0\n".encode())
    assert file.latest() == (tmp_path / "run.1").read_text() == "r.1.0-1 0\nr.1.1-1 0\nr.1.2-1 0\n"
    os.write(file.for_next_attempt(), b"x" * 10_000)
    assert len(file.latest()) < 10_000
    assert (tmp_path / "run.1").stat().st_mode & 0o777 == 0o600


def test_it_does_not_grow_for_ever(file: StatusFile, tmp_path: Path) -> None:
    sizes = []
    for number in range(2500):
        os.write(file.for_next_attempt(), f"r.1.{number}-1 0\n".encode())
        sizes.append((tmp_path / "run.1").stat().st_size)
    assert max(sizes) < 20_000
    assert file.latest().endswith("r.1.2499-1 0\n")


def test_bytes_that_are_no_text_do_no_harm(file: StatusFile) -> None:
    os.write(file.for_next_attempt(), b"\xff\nr.1.1-1 0\n")
    assert file.latest() == "\N{REPLACEMENT CHARACTER}\nr.1.1-1 0\n"
