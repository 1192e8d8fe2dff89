"""What attempts leave behind."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from aqueue.attempts.files import AttemptFiles
from aqueue.attempts.shell import StatusReport
from aqueue.jobs.job import Attempt, Job

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path) -> AttemptFiles:
    return AttemptFiles(tmp_path, 10)


@pytest.fixture
def job() -> Job:
    attempts = tuple(Attempt(started_at=NOW, worker=1, token=f"r.1.7-{number}") for number in (1, 2))
    return Job(id="../../etc", seq=7, command="x", created_at=NOW, history=attempts)


def write(files: AttemptFiles, data: bytes, stream: str = "out") -> Path:
    path = Path(files.output_path(7, 2, stream))
    path.write_bytes(data)
    return path


def ended(job: Job, exit_code: int, *, stdout: str = "", stderr: str = "", error: str | None = None) -> Job:
    latest = replace(job.history[-1], finished_at=NOW, exit_code=exit_code, error=error)
    return replace(job, history=(*job.history[:-1], latest), stdout=stdout, stderr=stderr)


def test_a_file_is_named_by_number_and_attempt_and_never_by_an_id(files: AttemptFiles, job: Job) -> None:
    path = Path(files.output_path(job.seq, 2, "err"))
    assert (path.parent, path.name) == (files.output, "7-2.err")


def test_folders_are_private(files: AttemptFiles) -> None:
    assert {path.stat().st_mode & 0o777 for path in (files.output, files.status)} == {0o700}


def test_short_output_is_read_whole_and_long_output_to_its_last_bytes(files: AttemptFiles, job: Job) -> None:
    write(files, b"hello\n")
    assert files.tail(job, "out") == "hello\n"
    write(files, b"0123456789")
    assert files.tail(job, "out") == "0123456789"
    write(files, b"0123456789abcdef")
    assert files.tail(job, "out") == "6789abcdef"


def test_bytes_that_are_no_text_are_shown_replaced(files: AttemptFiles, job: Job) -> None:
    write(files, b"\xff\xfeok")
    assert files.tail(job, "out") == "\N{REPLACEMENT CHARACTER}" * 2 + "ok"


def test_output_that_is_gone_reads_as_nothing(files: AttemptFiles, job: Job) -> None:
    assert files.tail(job, "out") == ""


def test_a_success_keeps_no_file_that_says_no_more_than_the_record(files: AttemptFiles, job: Job) -> None:
    out, err = write(files, b"hello"), write(files, b"", "err")
    files.remove_redundant(ended(job, 0, stdout="hello"))
    files.close()
    assert (out.exists(), err.exists()) == (False, False)


def next_file(files: AttemptFiles, job: Job) -> int:
    """The number of the file that the next job's output goes to; it is empty."""
    fd = files.create_output(replace(job, seq=8), "out")
    assert Path(files.output_path(8, 2, "out")).read_bytes() == b""
    number = os.fstat(fd).st_ino
    os.close(fd)
    return number


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell whether a file is open elsewhere")
def test_an_empty_file_that_is_not_needed_any_more_is_used_again(files: AttemptFiles, job: Job) -> None:
    path = write(files, b"")
    number = path.stat().st_ino
    files.remove_redundant(ended(job, 0))
    assert next_file(files, job) == number
    assert not path.exists()


@pytest.mark.parametrize("mode", ["rb", "ab"])
def test_a_file_that_somebody_still_reads_or_writes_is_not_used_again(files: AttemptFiles, job: Job, mode: str) -> None:
    path = write(files, b"")
    with path.open(mode) as held:
        files.remove_redundant(ended(job, 0))
        assert next_file(files, job) != os.fstat(held.fileno()).st_ino


def test_a_file_that_a_command_has_linked_to_is_not_used_again(files: AttemptFiles, job: Job, tmp_path: Path) -> None:
    path, link = write(files, b""), tmp_path / "mine"
    link.hardlink_to(path)
    files.remove_redundant(ended(job, 0))
    assert next_file(files, job) != link.stat().st_ino


def test_a_file_that_was_written_to_after_all_is_not_used_again(files: AttemptFiles, job: Job) -> None:
    path = write(files, b"")
    files.remove_redundant(ended(job, 0))
    path.write_bytes(b"late")
    next_file(files, job)


def test_a_file_that_has_been_removed_with_its_job_is_not_missed(files: AttemptFiles, job: Job) -> None:
    write(files, b"")
    files.remove_redundant(ended(job, 0))
    files.remove_output(job)
    next_file(files, job)


def test_a_file_that_says_more_than_the_record_stays(files: AttemptFiles, job: Job) -> None:
    long, bytes_ = write(files, b"0123456789abcdef"), write(files, b"\xff", "err")
    files.remove_redundant(ended(job, 0, stdout="6789abcdef", stderr="\N{REPLACEMENT CHARACTER}"))
    assert (long.read_bytes(), bytes_.read_bytes()) == (b"0123456789abcdef", b"\xff")


def test_a_failed_attempts_output_stays_but_an_empty_file_goes(files: AttemptFiles, job: Job) -> None:
    for failure in (ended(job, 1, stdout="x"), ended(job, 0, stdout="x", error="time limit of 1 s exceeded")):
        out, err = write(files, b"x"), write(files, b"", "err")
        files.remove_redundant(failure)
        files.close()
        assert (out.exists(), err.exists()) == (True, False)


def test_a_running_attempts_files_are_left_alone(files: AttemptFiles, job: Job) -> None:
    out = write(files, b"")
    files.remove_redundant(replace(job, stdout="", stderr=""))
    files.close()
    assert out.exists()


def test_removing_a_jobs_output_removes_that_of_every_attempt_and_of_no_other_job(
    files: AttemptFiles, job: Job
) -> None:
    mine = [Path(files.output_path(7, number, stream)) for number in (1, 2) for stream in ("out", "err")]
    other = Path(files.output_path(77, 1, "out"))
    for path in (*mine, other):
        path.write_bytes(b"x")
    files.remove_output(job)
    assert list(files.output.iterdir()) == [other]
    files.remove_output(job)


def test_a_status_is_found_by_its_token(files: AttemptFiles) -> None:
    (files.status / "run.3").write_text("run.3.1-1 0\nrun.3.2-1 7\n")
    found = files.find_status("run.3.2-1")
    assert found.report == StatusReport(7)
    assert found.written_at is not None
    assert files.find_status("run.3.9-1").report == StatusReport()
    assert files.find_status("other.3.2-1") == (StatusReport(), None)
    assert files.find_status("") == (StatusReport(), None)


def test_the_statuses_of_pools_that_are_gone_are_removed_but_for_those_to_keep(files: AttemptFiles) -> None:
    for name in ("old.1", "old.2", "adopted.1"):
        (files.status / name).touch()
    files.remove_statuses(files.runs() - {"adopted"})
    assert [path.name for path in files.status.iterdir()] == ["adopted.1"]


def test_an_attempt_is_marked_as_interrupted_where_its_status_will_be(files: AttemptFiles) -> None:
    (files.status / "run.3").write_text("run.3.1-1 0\n")
    files.mark_interrupted("run.3.2-1")
    files.mark_interrupted("of.another.store")
    files.mark_interrupted("run.4.2-1")
    with (files.status / "run.3").open("a") as shell:
        shell.write("Terminated\nrun.3.2-1 143\n")
    assert files.find_status("run.3.2-1").report == StatusReport(143, "Terminated", True)
    assert [path.name for path in files.status.iterdir()] == ["run.3"]


def test_attempts_whose_status_is_there_are_found(files: AttemptFiles) -> None:
    (files.status / "run.3").write_text("run.3.1-1 0\nKilled\nrun.3.2-1 137\nrun.3.3-1 interrupted\n")
    (files.status / "old.1").write_text("old.1.9-2 1\n")
    assert sorted(map(str, files.reported_tokens())) == ["old.1.9-2", "run.3.1-1", "run.3.2-1"]
    assert files.runs() == {"run", "old"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file open")
def test_who_opens_a_file_while_it_is_looked_at_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    opening = subprocess.Popen([sys.executable, "-c", f"while True: open({str(file)!r}).close()"])
    look = (
        "import os\nfrom aqueue.system import is_open_only_here\n"
        f"for _ in range(100_000):\n    fd = os.open({str(file)!r}, os.O_WRONLY)\n    is_open_only_here(fd)\n"
        "    os.close(fd)"
    )
    try:
        assert subprocess.run([sys.executable, "-c", look], timeout=60).returncode == 0
    finally:
        opening.kill()
        opening.wait()
