"""A disk that is full, broken or read-only: what was refused did not happen, what ended is not lost, and the pool goes
on by itself when the disk takes writes again."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aqueue.errors import StoreError
from aqueue.jobs.job import State
from tests.faults.conftest import Broken

FULL = {"do": "fail", "error": "ENOSPC", "file": "jobs."}
CALLS = ["write", "fdatasync"]


@pytest.fixture
def outage(tmp_path: Path) -> Path:
    """While this file exists, the disk is broken."""
    return tmp_path / "outage"


def patient(go: Path, after: str) -> str:
    """A command that prints, runs until the file `go` exists, and then goes on with `after`."""
    return f"echo before; until [ -e {go} ]; do sleep 0.02; done; {after}"


def until_refused(broken: Broken, command: str, why: str) -> set[str]:
    """Queue jobs for later until one is refused, for that reason; return which were acknowledged."""
    acknowledged: set[str] = set()
    for number in range(500):
        try:
            acknowledged.add(broken.enqueue(command, id=f"n{number}", delay=3600).id)
        except StoreError as error:
            refusal = str(error)
            break
    assert why in refusal
    return acknowledged


def assert_refused(status: int, output: str) -> None:
    assert status == 5, output
    assert output.startswith("aqueue: ")
    assert output.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("call", ["write", "fdatasync", "open", "mkdir"])
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS"])
def test_without_a_pool_an_enqueue_that_cannot_be_stored_fails_and_did_not_happen(
    broken: Broken, outage: Path, call: str, error: str
) -> None:
    if call != "mkdir":
        broken.enqueue("true", id="before")
    outage.touch()
    fault = {"call": call, "do": "fail", "error": error, "file": str(broken.store), "until_gone": str(outage)}
    assert_refused(*broken.run("enqueue", "echo refused", "--id", "refused", fault=fault))
    outage.unlink()
    assert "refused" not in broken.jobs()
    assert broken.run("enqueue", "echo again", "--id", "refused") == (0, "refused\n")


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_a_pool_on_a_broken_disk_refuses_and_claims_nothing_loses_no_result_and_goes_on_by_itself(
    broken: Broken, outage: Path, eventually: Callable[..., Any], tmp_path: Path, call: str
) -> None:
    broken.pool("--count", "2", fault={**FULL, "call": call, "until_gone": str(outage)})
    broken.enqueue(patient(tmp_path / "go", "exit 3"), id="running")
    eventually(lambda: broken.job("running").stdout == "before\n", "the start")
    broken.enqueue("touch later.ran", id="later", delay=1.5)
    outage.touch()
    assert_refused(*broken.run("enqueue", "echo refused", "--id", "refused"))
    with pytest.raises(StoreError):
        broken.enqueue("echo refused", id="refused-too")
    (tmp_path / "go").touch()
    eventually(lambda: broken.job("running").state is State.DEAD, "the end of the command")
    assert broken.run("status")[1].count("cannot write") == 1
    assert not (tmp_path / "later.ran").exists()
    outage.unlink()
    assert broken.ended("later").state is State.COMPLETED
    ended = broken.ended("running")
    assert (ended.exit_code, ended.stdout) == (3, "before\n")
    assert set(broken.jobs()) == {"running", "later"}
    broken.pools[0].kill()
    broken.pools[0].wait()
    assert {name: job.state for name, job in broken.jobs().items()} == {
        "running": State.DEAD,
        "later": State.COMPLETED,
    }


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [0, 3])
def test_a_result_that_could_not_be_stored_before_the_pool_ended_is_found_by_the_next(
    broken: Broken, outage: Path, eventually: Callable[..., Any], tmp_path: Path, call: str, status: int
) -> None:
    pool = broken.pool(fault={**FULL, "call": call, "until_gone": str(outage)})
    broken.enqueue(patient(tmp_path / "go", f"echo ran >>runs; exit {status}"), id="running")
    eventually(lambda: broken.job("running").stdout == "before\n", "the start")
    outage.touch()
    (tmp_path / "go").touch()
    eventually(lambda: broken.job("running").state.final, "the end of the command")
    pool.terminate()
    assert pool.wait(30) == 5, broken.log()
    assert "could not be stored" in broken.log()
    broken.drain()
    job = broken.job("running")
    assert (job.exit_code, job.stdout, len(job.history)) == (status, "before\n", 1)
    assert (tmp_path / "runs").read_text() == "ran\n"


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_a_command_whose_start_could_not_be_stored_is_not_run_a_second_time_beside_itself(
    broken: Broken, outage: Path, eventually: Callable[..., Any], call: str
) -> None:
    pool = broken.pool(fault={**FULL, "call": call, "until_gone": str(outage)})
    alone = "exec 9>lock; flock -n 9 || echo not alone >>runs; echo s >>runs"
    broken.enqueue(f"{alone}; until [ -e go ]; do sleep 0.02; done", id="j", delay=0.5)
    outage.touch()
    eventually(lambda: "cannot write" in broken.run("status")[1], "the trouble")
    pool.kill()
    pool.wait()
    outage.unlink()
    broken.pool()
    eventually(lambda: broken.job("j").state is State.PROCESSING, "the start")
    (broken.folder / "go").touch()
    assert broken.ended("j").exit_code == 0
    assert "not alone" not in (broken.folder / "runs").read_text()


def test_a_compaction_that_fails_leaves_the_store_as_it_is_and_in_service(broken: Broken, outage: Path) -> None:
    fault = {"call": "replace", "do": "fail", "error": "EIO", "file": "jobs.new", "until_gone": str(outage)}
    outage.touch()
    broken.pool(fault={**fault, "set": {"aqueue.store.journal.group_commit.COMPACT_AT": 5}})
    for number in range(20):
        broken.enqueue(f"echo {number}", id=f"n{number}")
    assert [broken.ended(f"n{number}").stdout for number in range(20)] == [f"{number}\n" for number in range(20)]
    assert broken.run("worker", "stop")[0] == 0
    assert not (broken.store / "jobs.new").exists()


def test_after_a_compaction_whose_new_name_cannot_be_made_durable_nothing_is_acknowledged_into_the_old_file(
    broken: Broken, outage: Path
) -> None:
    broken.enqueue("true", id="first", delay=3600)
    fault = {"call": "fsync", "do": "fail", "file": str(broken.store), "until_gone": str(outage)}
    pool = broken.pool("--count", "1", fault={**fault, "set": {"aqueue.store.journal.group_commit.COMPACT_AT": -1000}})
    outage.touch()
    acknowledged = {"first"}
    acknowledged |= until_refused(broken, "true", "written anew")
    outage.unlink()
    while "after" not in acknowledged:
        with contextlib.suppress(StoreError):
            acknowledged.add(broken.enqueue("true", id="after").id)
    pool.kill()
    pool.wait()
    assert set(broken.jobs()) == acknowledged


def test_at_the_file_size_limit_enqueue_fails_and_goes_on_when_the_limit_is_lifted(broken: Broken) -> None:
    pool = broken.pool()
    resource.prlimit(pool.pid, resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
    accepted = until_refused(broken, "true # " + "x" * 3000, "File too large")
    assert set(broken.jobs()) == accepted
    resource.prlimit(pool.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    broken.enqueue("echo there is room", id="after")
    assert broken.ended("after").stdout == "there is room\n"


def test_half_a_write_that_cannot_be_taken_back_spoils_nothing(broken: Broken, outage: Path) -> None:
    fault = {"call": "ftruncate", "do": "fail", "file": "jobs.jsonl", "until_gone": str(outage)}
    pool = broken.pool(fault=fault)
    outage.touch()
    resource.prlimit(pool.pid, resource.RLIMIT_FSIZE, (1 << 14, resource.RLIM_INFINITY))
    accepted = until_refused(broken, "true # " + "x" * 3000, "File too large")
    resource.prlimit(pool.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while "after" not in accepted:
        with contextlib.suppress(StoreError):
            accepted.add(broken.enqueue("true", id="after").id)
    pool.kill()
    pool.wait()
    assert set(broken.jobs()) == accepted


@pytest.fixture
def small_disk(broken: Broken) -> Iterator[Path]:
    """The store on a file system of 256 kB."""
    broken.store.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", broken.store], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield broken.store
    broken.clean_up()
    subprocess.run(["umount", broken.store], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


@pytest.mark.parametrize("status", [0, 3])
def test_a_full_disk_changes_no_exit_status_and_the_pool_goes_on_when_there_is_room(
    broken: Broken, small_disk: Path, eventually: Callable[..., Any], tmp_path: Path, status: int
) -> None:
    broken.pool()
    broken.enqueue(patient(tmp_path / "go", f"exit {status}"), id="running")
    eventually(lambda: broken.job("running").stdout == "before\n", "the start")
    filler = fill(small_disk)
    until_refused(broken, "true # " + "x" * 3000, "No space left")
    (tmp_path / "go").touch()
    eventually(lambda: broken.job("running").state.final, "the end of the command")
    os.unlink(filler)
    broken.enqueue("echo room", id="after")
    assert broken.ended("after").stdout == "room\n"
    ended = broken.ended("running")
    assert (ended.exit_code, ended.error, ended.stdout) == (status, None, "before\n")


def test_on_a_full_disk_a_new_store_is_refused_with_exit_status_5(broken: Broken, small_disk: Path) -> None:
    filler = fill(small_disk)
    assert_refused(*broken.run("enqueue", "true", "--id", "a"))
    os.unlink(filler)
    assert broken.run("enqueue", "true", "--id", "a") == (0, "a\n")


def test_a_pool_that_cannot_write_at_its_start_says_so_in_one_line(broken: Broken, small_disk: Path) -> None:
    broken.enqueue("true", id="kept")
    fill(small_disk)
    status, output = broken.run("worker", "start")
    assert_refused(status, output.splitlines(keepends=True)[-1])
    assert "kept" in broken.jobs()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_log_for_which_there_is_no_room_costs_no_job(broken: Broken, log_format: str) -> None:
    for name in ("a", "b"):
        broken.enqueue("echo done", id=name)
    with open("/dev/full", "w") as full:
        log = ("--log-format", log_format)
        pool = broken.popen("worker", "start", "--drain", *log, stdout=full, stderr=subprocess.PIPE)
        errors = pool.communicate(timeout=60)[1]
    assert pool.returncode == 0
    assert {job.stdout for job in broken.jobs().values()} == {"done\n"}
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_a_stream_that_is_closed_is_taken_for_no_file_of_the_stores(broken: Broken, closed: list[int]) -> None:
    def close() -> None:
        for fd in closed:
            os.close(fd)

    for args in (("enqueue", "--id", "a", "echo done"), ("worker", "start", "--drain"), ("list",)):
        assert broken.popen(*args, preexec_fn=close, stdout=subprocess.DEVNULL).wait(60) == 0
    assert broken.job("a").stdout == "done\n"
    assert broken.run("doctor")[0] == 0
