"""Commands that misbehave: the attempt is told as it was, and the pool lives on."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from aqueue.jobs.job import State

Eventually = Callable[..., Any]
MEGABYTE, GIGABYTE = 1 << 20, 1 << 30


@pytest.fixture
def served(broken: Any) -> Any:
    broken.pool("--count", "2")
    return broken


def outcome(broken: Any, command: str, **fields: Any) -> Any:
    """How a command ended; and another one after it, since the pool must live on."""
    broken.enqueue(command, id="j", **fields)
    broken.ended("j")
    broken.enqueue("echo alive", id="after")
    assert broken.ended("after").stdout == "alive\n"
    return broken.job("j")


def left_running(broken: Any) -> list[str]:
    """The names of what commands have left running."""
    pools = {pool.pid for pool in broken.pools}
    return [process.name() for process in broken.processes() if process.pid not in pools]


def most_memory(pid: int) -> int:
    """The most bytes of memory that a process has had at any time."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


@pytest.mark.parametrize("command", ["trap '' TERM; sleep 60 & wait", "(trap '' TERM; (sleep 60; :); :); :"])
def test_a_time_limit_ends_grandchildren_that_ignore_sigterm(served: Any, command: str) -> None:
    job = outcome(served, command, timeout=0.3)
    assert (job.state, job.error) == (State.DEAD, "time limit of 0.3 s exceeded")
    assert left_running(served) == []


def test_a_child_in_the_background_that_keeps_stdout_open_does_not_hold_the_job(served: Any) -> None:
    job = outcome(served, "sleep 60 & echo over")
    assert (job.exit_code, job.stdout) == (0, "over\n")
    assert left_running(served) == ["sleep"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGHUP])
def test_an_exit_by_a_signal_is_told_as_that(served: Any, number: signal.Signals) -> None:
    job = outcome(served, f"kill -{number.value} $$")
    assert (job.exit_code, job.signal, job.error, job.attempts) == (None, number.value, None, 1)


def test_a_kill_of_its_own_group_and_shell_ends_the_attempt_only(served: Any) -> None:
    job = outcome(served, "kill -9 0")
    assert (job.signal, job.state) == (signal.SIGKILL, State.DEAD)


def test_output_that_is_no_text_is_shown_as_far_as_it_is_and_kept_whole(served: Any) -> None:
    job = outcome(served, r"printf 'a\377b\000c'")
    assert job.stdout == "a\N{REPLACEMENT CHARACTER}b\0c"
    assert (served.store / "output" / f"{job.seq}-1.out").read_bytes() == b"a\xffb\0c"


@pytest.mark.slow
@pytest.mark.skipif(shutil.disk_usage(tempfile.gettempdir()).free < 2 * GIGABYTE, reason="has no room for 1 GB")
def test_a_gigabyte_of_output_is_in_its_file_its_end_in_the_record_and_not_in_memory(served: Any) -> None:
    outcome(served, "true")
    before = most_memory(served.pools[0].pid)
    served.enqueue(f"head -c {GIGABYTE} /dev/zero | tr '\\0' x; echo; echo the end", id="huge")
    job = served.ended("huge")
    assert job.stdout.endswith("x\nthe end\n")
    assert len(job.stdout) == 65536
    assert (served.store / "output" / f"{job.seq}-1.out").stat().st_size == GIGABYTE + 9
    assert most_memory(served.pools[0].pid) - before < 5 * MEGABYTE
    assert served.run("remove", "huge") == (0, "huge\n")
    assert list((served.store / "output").iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"command": "true", "cwd": "/nowhere/at/all"}, "cannot start: No such file or directory: /nowhere/at/all"),
        ({"command": "true # " + "x" * 200_000}, "cannot start: Argument list too long"),
        ({"command": "true", "env": {"BIG": "x" * 200_000}}, "cannot start: Argument list too long"),
    ],
)
def test_what_cannot_start_is_an_attempt_that_failed_with_that_reason(
    served: Any, fields: dict[str, Any], reason: str
) -> None:
    job = outcome(served, **fields)
    assert (job.state, job.error, job.attempts) == (State.DEAD, reason, 1)


def test_where_no_process_can_be_started_attempts_fail_and_the_pool_lives_on(
    served: Any, eventually: Eventually
) -> None:
    served.enqueue("true", id="j", delay=0.5)
    pool = served.pools[0].pid
    limits = resource.prlimit(pool, resource.RLIMIT_NOFILE)
    resource.prlimit(pool, resource.RLIMIT_NOFILE, (psutil.Process(pool).num_fds(), limits[1]))
    eventually(lambda: " dead " in served.log(), "the failure")
    resource.prlimit(pool, resource.RLIMIT_NOFILE, limits)
    assert served.ended("j").error == "cannot start: Too many open files"
    served.enqueue("echo alive", id="after")
    assert served.ended("after").stdout == "alive\n"


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user, whom a limit of processes binds")
def test_at_the_limit_of_processes_attempts_fail_and_the_pool_lives_on() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, 65534)
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("crowded.py")), folder],
            env={"PATH": os.defpath, "HOME": folder},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    *ends, alive = done.stdout.splitlines()
    assert alive == "alive"
    assert len(ends) == 30
    assert any(line.startswith("dead cannot start: ") for line in ends)
    # A command that could be started may itself be refused a process, which is its own failure: no reason given.
    assert all(line.startswith("dead cannot start: ") or line in ("completed ", "dead ") for line in ends)


@pytest.mark.parametrize("close", ["exec 0<&- 1>&- 2>&-", "exec 0<&- 1>&- 2>&- 3>&- 4>&-; exec sh -c 'exit 9'"])
def test_a_command_that_closes_all_its_descriptors_still_has_its_exit_status(served: Any, close: str) -> None:
    assert outcome(served, f"{close}; exit 9").exit_code == 9


@pytest.mark.parametrize(
    "command", ["exec >/dev/full; echo x || exit 8", "cat; exit 8", "cd /; rmdir / 2>/dev/null; exit 8"]
)
def test_what_it_does_to_its_streams_and_its_directory_is_its_own_affair(served: Any, command: str) -> None:
    assert outcome(served, command).exit_code == 8


@pytest.mark.slow
def test_a_thousand_commands_run_at_once_with_few_descriptors_allowed_at_first(
    broken: Any, eventually: Eventually
) -> None:
    count = 1000

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    os.mkfifo(broken.folder / "go")
    commands = [{"command": f"touch on{number}; : <go; exit {number % 5}"} for number in range(count)]
    assert broken.run("enqueue", json.dumps(commands), "--max-retries", "0")[0] == 0
    broken.pool("--count", str(count), preexec_fn=few)
    eventually(lambda: len(list(broken.folder.glob("on*"))) == count, "all of them at once")
    go = os.open(broken.folder / "go", os.O_RDWR)
    broken.run("wait", "--all")
    os.close(go)
    assert [job.exit_code for job in broken.jobs().values()] == [number % 5 for number in range(count)]
