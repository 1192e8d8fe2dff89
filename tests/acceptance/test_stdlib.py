"""Real input: one job for each file of the Python standard library, through the command line, in two terminals.

Each job runs `python -m py_compile FILE`. Some of the library's files are broken on purpose: they must fail, be retried
and end in the dead letter queue. Every final state is compared with what a plain loop over the same files says.
"""

import json
import os
import py_compile
import shlex
import signal
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 300.0
RETRIES = 1


def library() -> list[Path]:
    """The files of this interpreter's standard library, its tests included where they are installed."""
    folder = Path(sysconfig.get_path("stdlib"))
    return sorted(path for path in folder.rglob("*.py") if "site-packages" not in path.relative_to(folder).parts)


def plain_loop(files: list[Path], folder: Path) -> dict[Path, bool]:
    """Whether each file compiles, by the function that `python -m py_compile` calls."""
    good = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in files:
            try:
                py_compile.compile(str(path), cfile=str(folder / "plain.pyc"), doraise=True)
            except py_compile.PyCompileError:
                good[path] = False
            else:
                good[path] = True
    return good


class Terminal:
    """Commands on a store, in a home and a directory of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        unwanted = ("AQUEUE_", "XDG_", "PYTHON", "COV_", "PYTEST_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        self.environ = {**kept, "HOME": str(folder), "AQUEUE_STORE": str(folder / "store")}

    def start(self, *args: str, log: Path) -> "subprocess.Popen[str]":
        with log.open("w") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "aqueue", *args],
                cwd=self.folder,
                env=self.environ,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def __call__(self, *args: str, stdin: str = "", status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "aqueue", *args],
            cwd=self.folder,
            env=self.environ,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=PATIENCE,
        )
        assert done.returncode == status, f"{args} exited {done.returncode}: {done.stderr}"
        return done.stdout

    def json(self, *args: str) -> Any:
        return json.loads(self(*args, "--json"))


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
def test_the_standard_library_compiles_as_a_plain_loop_says(tmp_path: Path) -> None:
    files = library()
    good = plain_loop(files, tmp_path)
    broken = [path for path in files if not good[path]]
    cache = tmp_path / "cache"
    terminal = Terminal(tmp_path)
    check_the_loop(terminal, [*broken[:3], *files[:3]], good)

    log = tmp_path / "pool.log"
    pool = terminal.start("worker", "start", "--count", "4", log=log)
    try:
        commands = "".join(shlex.join([sys.executable, "-m", "py_compile", str(path)]) + "\n" for path in files)
        options = ("--max-retries", str(RETRIES), "--backoff-base", "0.1", "--env", f"PYTHONPYCACHEPREFIX={cache}")
        ids = terminal("enqueue", "-", *options, stdin=commands).split()
        path_of = dict(zip(ids, files, strict=True))
        waited = terminal("wait", "--all", status=1 if broken else 0)
        terminal("worker", "stop")
        assert pool.wait(PATIENCE) == 0
    finally:
        if pool.poll() is None:
            pool.send_signal(signal.SIGKILL)
            pool.wait()

    records = {path_of[record["id"]]: record for record in terminal.json("list")}
    assert records.keys() == good.keys()
    assert {path: record["state"] for path, record in records.items()} == {
        path: "completed" if fine else "dead" for path, fine in good.items()
    }
    for path, record in records.items():
        attempts = 1 if good[path] else 1 + RETRIES
        assert record["attempts"] == len(record["history"]) == attempts, path
        assert {attempt["exit_code"] for attempt in record["history"]} == {0 if good[path] else 1}, path
        assert ("Error" in record["stderr"]) is not good[path], path
    assert {path_of[record["id"]] for record in terminal.json("dlq", "list")} == set(broken)
    # What was still unfinished when `wait` began is reported there, each once and with its final state.
    reported = dict(line.split() for line in waited.splitlines())
    assert len(reported) == len(waited.splitlines())
    assert all(state == records[path_of[name]]["state"] for name, state in reported.items())
    starts = [line.split()[1] for line in log.read_text().splitlines() if line.split()[2:3] == ["started"]]
    assert sorted(starts) == sorted([*ids, *(name for name, path in path_of.items() if not good[path])])
    # Each good file was really compiled, into the cache that its job's environment named.
    assert [path for path in files if compiled(path, cache).exists() is not good[path]] == []


def compiled(path: Path, cache: Path) -> Path:
    """Where `path` is compiled to when PYTHONPYCACHEPREFIX is `cache`."""
    return cache / path.parent.relative_to("/") / f"{path.stem}.{sys.implementation.cache_tag}.pyc"


def check_the_loop(terminal: Terminal, sample: list[Path], good: dict[Path, bool]) -> None:
    """The plain loop says what the command itself says, on a few files."""
    environ = {**terminal.environ, "PYTHONPYCACHEPREFIX": str(terminal.folder / "sample")}
    for path in sample:
        command = [sys.executable, "-m", "py_compile", str(path)]
        code = subprocess.run(command, env=environ, stderr=subprocess.DEVNULL, timeout=PATIENCE).returncode
        assert (code == 0) is good[path], path
