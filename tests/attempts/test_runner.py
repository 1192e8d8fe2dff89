"""Running attempts: real commands, which mean what they mean under `sh -c`, and are ended for certain."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from aqueue.attempts.files import AttemptFiles
from aqueue.attempts.orphans import find_orphans, group_members
from aqueue.attempts.runner import Runner
from aqueue.attempts.running import RunningAttempt
from aqueue.attempts.token import Token
from aqueue.jobs.job import Attempt, Job, Outcome
from aqueue.settings.config import Config
from tests.conftest import PATIENCE, Pipe

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Bench:
    """Runs commands as worker 1 of a pool whose name no other process has."""

    def __init__(self, store: Path, config: Config) -> None:
        store.mkdir()
        self.folder = store
        self.files = AttemptFiles(store, config.output_limit)
        self.name = os.urandom(5).hex()
        self.runner = Runner(self.name, self.files, config)
        self.count = 0

    def job(self, command: str, **fields: object) -> Job:
        self.count += 1
        attempt = Attempt(started_at=NOW, worker=1, token=str(Token(self.name, 1, self.count, 1)))
        job = Job(id=f"j{self.count}", seq=self.count, command=command, created_at=NOW, history=(attempt,))
        return replace(job, **{"cwd": str(self.folder), **fields})

    async def __call__(self, command: str, **fields: object) -> Outcome:
        async with asyncio.timeout(PATIENCE):
            outcome = await self.runner.run(self.job(command, **fields))
        assert outcome is not None
        return outcome


@pytest.fixture
async def run(store: Path, config: Config) -> AsyncIterator[Bench]:
    bench = Bench(store, config)
    yield bench
    bench.runner.close()


# What a command means

MEANINGS = [
    "echo hello",
    "echo hello >&2",
    "true",
    "false",
    "exit 7",
    "echo 'a  b' \"c  d\" e\\ f",
    "echo $0 $# $?",
    "false; echo $?",
    "echo \"$0\" '$0'",
    "if then",
    "echo 'unclosed",
    "echo )",
    "cat <<END\nline $((1 + 1))\n'quoted'\nEND",
    "cat <<'END'\n$HOME\nEND",
    "cat <<END\nnever closed",
    "# only a comment",
    "echo a # a comment",
    "echo a \\\n b",
    "echo one\necho two\n",
    "\n\necho late\n\n",
    "exec echo replaced",
    "exec sh -c 'exit 9'",
    "exec 1>&2; echo moved",
    "trap 'echo bye' EXIT; echo hi",
    "trap 'echo bye; exit 4' EXIT; exit 3",
    "trap '' TERM; trap",
    "trap",
    "set -e; false; echo never",
    "set -u; echo $AQUEUE_NOT_THERE",
    "set -x; echo traced",
    "no-such-program",
    "no-such-program with words",
    "/no/such/program",
    "./no-such-file; echo $?",
    "/dev/null",
    "cd /; pwd",
    "cd /no/such/directory",
    "(exit 5)",
    "{ echo a; exit 6; }",
    "echo a | (exit 2)",
    "true && false || echo or",
    "! true",
    "echo 'x' > f; cat f",
    "umask; ulimit -c",
    'read x; echo "got: $x, $?"',
    "cat",
    "readlink /proc/self/fd/0",
    "ls /proc/self/fd | wc -l",
    "printf 'no newline'",
    "printf '\\377\\0\\n' | od -c",
    "echo é ü 漢",
    "x='a b'; echo $x \"$x\"",
    "A=1 sh -c 'echo $A'",
    "A=1; export A; sh -c 'echo $A'",
    "echo *",
    "echo ~ | wc -l",
    "echo `echo ticks` $(echo parens)",
    "eval 'echo evaluated; exit 8'",
    "return 3",
    "break",
    "sleep 0 & wait; echo $?",
    "kill -0 $$; echo $?",
    "test -t 0 || echo no terminal",
    "command -v echo",
    "exit 256",
    "exit -1",
    "exit abc",
    "echo 'it'\\''s'",
    'echo "a\\"b\\$c\\`"',
    "'echo' quoted",
    "shift",
    "shift 2",
    "unset PATH; echo gone",
    "alias",
    "wait",
    "times > /dev/null",
    "echo a; if",
    "case x in x) echo matched;; esac",
    "f() { return 12; }; f",
    "until true; do :; done; echo $?",
    ":",
    "[ 1 = 2 ]",
    "env true",
    "kill",
    "echo -n no newline",
    "echo ''",
    "printf '%s, ' 'a b' c",
    "printf %d x",
    "printf",
    "pwd -x",
    "test a = b",
    "test 1 -eq x",
    "test",
]


def as_sh(command: str, folder: Path, env: dict[str, str] | None = None) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        command, shell=True, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", MEANINGS)
async def test_a_command_means_what_it_means_under_sh(run: Bench, tmp_path: Path, command: str) -> None:
    ours, theirs = tmp_path / "a", tmp_path / "b"
    ours.mkdir()
    theirs.mkdir()
    outcome = await run(command, cwd=str(ours))
    status, out, err = as_sh(command, theirs)
    assert outcome.error is None
    assert (outcome.exit_code, outcome.stdout.encode(), outcome.stderr.encode()) == (status, out, err)


@pytest.mark.parametrize("command", ["/bin/echo plain", "echo no; echo plain words", "env true"])
async def test_a_path_of_the_jobs_own_is_where_its_programs_are_looked_for_and_not_its_shell(
    run: Bench, tmp_path: Path, command: str
) -> None:
    false_shell = tmp_path / "sh"
    false_shell.write_text("#!/bin/false\n")
    false_shell.chmod(0o755)
    for path in (str(tmp_path), "/no/such/place", ""):
        outcome = await run(command, env={"PATH": path})
        status, out, err = as_sh(command, tmp_path, {"PATH": path})
        assert outcome.error is None
        assert (outcome.exit_code, outcome.stdout.encode(), outcome.stderr.encode()) == (status, out, err)


@pytest.mark.parametrize("status", [0, 1, 2, 63, 100, 125, 126, 127, 128, 129, 130, 137, 141, 143, 159, 192, 254, 255])
async def test_every_exit_status_is_kept_as_it_was(run: Bench, status: int) -> None:
    for command in (f"exit {status}", f"sh -c 'exit {status}'", f"echo x; exit {status}"):
        outcome = await run(command)
        assert (outcome.exit_code, outcome.signal, outcome.error) == (status, None, None)


@pytest.mark.parametrize("name", ["KILL", "TERM", "HUP", "SEGV", "ABRT", "USR1", "ALRM", "QUIT"])
async def test_a_command_that_dies_of_a_signal_is_reported_so(run: Bench, name: str) -> None:
    for command in (f"kill -{name} $$", f"echo x; exec sh -c 'kill -{name} $$'"):
        outcome = await run(f"ulimit -c 0; {command}")
        assert (outcome.exit_code, outcome.signal) == (None, getattr(signal, f"SIG{name}"))
        assert outcome.stderr == ""


async def test_a_whole_group_that_is_killed_is_reported_so_and_does_not_stay(run: Bench) -> None:
    outcome = await run("sleep 100 & kill -9 0")
    assert (outcome.exit_code, outcome.signal) == (None, 9)
    assert outcome.pid is not None
    assert group_members(outcome.pid) == []


async def test_a_command_may_be_long_but_not_longer_than_the_system_allows(run: Bench) -> None:
    assert (await run("echo " + "x" * 100_000 + " | wc -c")).stdout == "100001\n"
    outcome = await run("true " + "x" * 200_000)
    assert outcome.error is not None
    assert outcome.error.startswith("cannot start: ")
    assert not outcome.success


# Where it runs


async def test_a_directory_that_is_missing_is_the_reason_of_a_failure(run: Bench, tmp_path: Path) -> None:
    outcome = await run("true", cwd=str(tmp_path / "gone"))
    assert outcome.error == f"cannot start: No such file or directory: {tmp_path / 'gone'}"
    assert (outcome.exit_code, outcome.signal) == (None, None)


async def test_a_place_for_output_that_is_missing_is_the_reason_of_a_failure_and_not_the_directory(run: Bench) -> None:
    run.files.output.rmdir()
    outcome = await run("echo hello")
    assert outcome.error == f"cannot start: No such file or directory: {run.files.output_path(1, 1, 'out')}"


async def test_a_directory_that_is_a_file_is_the_reason_of_a_failure(run: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = await run("true", cwd=str(tmp_path / "file"))
    assert outcome.error == f"cannot start: Not a directory: {tmp_path / 'file'}"


async def test_the_environment_is_inherited_changed_and_says_who_runs(
    run: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "AQUEUE_JOB_ID AQUEUE_ATTEMPT AQUEUE_WORKER AQUEUE_QUEUE OWN HOME"
    command = f"for name in {names}; do eval echo \\$$name; done"
    outcome = await run(command, id="me", queue="q", env={"OWN": "a b=c", "HOME": "/h", "AQUEUE_JOB_ID": "lie"})
    assert outcome.stdout == "me\n1\n1\nq\na b=c\n/h\n"
    assert (await run("echo $PATH")).stdout == os.environ["PATH"] + "\n"


# What it prints


async def test_the_shell_is_found_whatever_path_a_job_has(run: Bench) -> None:
    for command in ("echo found", "echo $((1 + 1))"):
        assert (await run(command, env={"PATH": "/no/such/directory"})).exit_code == 0


async def test_output_larger_than_a_pipe_is_in_its_file_and_its_end_in_the_record(run: Bench) -> None:
    outcome = await run("yes 0123456 | head -c 1048576; echo last; echo err >&2")
    assert outcome.success
    assert len(outcome.stdout) == 65536
    assert outcome.stdout.endswith("0123456\nlast\n")
    assert os.path.getsize(run.files.output_path(1, 1, "out")) == 1048576 + 5
    assert outcome.stderr == "err\n"


async def test_bytes_that_are_no_text_are_replaced_in_the_record_only(run: Bench) -> None:
    outcome = await run("printf '\\377ok'")
    assert outcome.stdout == "\N{REPLACEMENT CHARACTER}ok"
    assert Path(run.files.output_path(1, 1, "out")).read_bytes() == b"\xffok"


async def test_a_child_in_the_background_does_not_hold_the_worker(run: Bench) -> None:
    began = time.monotonic()
    outcome = await run("sleep 20 & echo $!")
    assert (outcome.exit_code, time.monotonic() - began < 10) == (0, True)
    child = psutil.Process(int(outcome.stdout))
    assert child.is_running()
    child.kill()


# How it is ended


async def test_a_time_limit_ends_the_command_and_says_so(run: Bench) -> None:
    outcome = await run("echo began; sleep 60", timeout=0.2)
    assert (outcome.signal, outcome.error) == (signal.SIGTERM, "time limit of 0.2 s exceeded")
    assert outcome.stdout == "began\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "sleep 60",
        "sleep 60 & wait",
        "sh -c 'sh -c \"sleep 60 & sleep 60\" & wait'",
        "trap '' TERM; sleep 60 & wait",
        "sh -c 'trap \"\" TERM; while :; do sleep 1; done' & wait",
        "trap 'exit 0' TERM; sh -c 'trap \"\" TERM; sleep 60' & wait",
        "trap '' TERM HUP INT; exec sleep 60",
    ],
)
async def test_a_time_limit_ends_all_descendants_also_those_that_ignore_sigterm(run: Bench, command: str) -> None:
    outcome = await run(command, timeout=0.2)
    assert outcome.error == "time limit of 0.2 s exceeded"
    assert not outcome.success
    assert outcome.pid is not None
    assert group_members(outcome.pid) == []


async def test_a_command_may_end_well_after_sigterm_and_still_exceeded_its_time(run: Bench) -> None:
    outcome = await run("trap 'echo saved; exit 0' TERM; sleep 60 & wait", timeout=0.2)
    assert (outcome.exit_code, outcome.stdout, outcome.success) == (0, "saved\n", False)


async def test_a_time_limit_that_is_not_reached_changes_nothing(run: Bench) -> None:
    assert (await run("echo done", timeout=PATIENCE)).success


async def test_what_was_asked_for_first_is_the_reason(run: Bench, ready: Pipe) -> None:
    job = run.job(f"echo > {ready.path}; sleep 60")
    task = asyncio.create_task(run.runner.run(job))
    await ready.read()
    attempt = run.runner.running[job.id]
    attempt.end("cancelled", cancelled=True)
    attempt.end("interrupted: the pool was stopped", interrupted=True)
    outcome = await asyncio.wait_for(task, PATIENCE)
    assert outcome is not None
    assert (outcome.error, outcome.cancelled, outcome.interrupted) == ("cancelled", True, False)


async def test_an_end_that_is_asked_for_while_the_command_starts_is_not_forgotten(run: Bench) -> None:
    job = run.job("sleep 60")
    task = asyncio.create_task(run.runner.run(job))
    while job.id not in run.runner.running:
        await asyncio.sleep(0)
    assert run.runner.running[job.id].group is None
    run.runner.running[job.id].end("cancelled", cancelled=True)
    outcome = await asyncio.wait_for(task, PATIENCE)
    assert outcome is not None
    assert outcome.cancelled
    assert outcome.pid is not None
    assert group_members(outcome.pid) == []


async def test_a_signal_for_the_terminal_does_not_reach_the_command(run: Bench) -> None:
    outcome = await run("ps -o sid= -p $$")
    assert int(outcome.stdout) == outcome.pid != os.getsid(0)


# What outlives its pool


async def test_a_command_left_running_goes_on_and_is_found_by_its_token(
    run: Bench, config: Config, ready: Pipe, go: Pipe
) -> None:
    job = run.job(f"echo before; echo > {ready.path}; read x < {go.path}; echo $x; echo after; exit 5")
    task = asyncio.create_task(run.runner.run(job))
    await ready.read()
    run.runner.running[job.id].leave_running()
    assert await asyncio.wait_for(task, PATIENCE) is None
    run.runner.close()

    later = Runner("later", run.files, config)
    orphan = find_orphans()[job.history[-1].token]
    assert orphan.shell is not None
    adopting = asyncio.create_task(later.adopt(job, orphan.shell))
    go.write()
    outcome = await asyncio.wait_for(adopting, PATIENCE)
    assert outcome is not None
    assert (outcome.exit_code, outcome.stdout, outcome.interrupted) == (5, "before\ngo\nafter\n", False)


async def test_an_attempt_of_which_nothing_is_left_was_interrupted(run: Bench) -> None:
    outcome = await run.runner.conclude(RunningAttempt(run.job("true"), 1))
    assert (outcome.interrupted, outcome.exit_code, outcome.signal) == (True, None, None)
    assert outcome.error is not None
    assert outcome.error.startswith("lost with its pool")
