"""What tests of every part share: a store, a pool in this process or another, and a look at what is left."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from aqueue.control import contention
from aqueue.settings.config import Config
from aqueue.system import try_lock
from tests import databases

PATIENCE = 30.0
"""Seconds after which a test that still waits has failed. Nothing is expected to take that long."""

StartPool = Callable[..., "subprocess.Popen[str]"]
RunClean = Callable[[Coroutine[None, None, None]], None]


@pytest.fixture(scope="session")
def postgres() -> Iterator[databases.Server]:
    """A PostgreSQL server."""
    with databases.server() as server:
        yield server


@pytest.fixture
def database(postgres: databases.Server) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    url = postgres.database()
    yield url
    postgres.drop(url)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store of the test's own can be made."""
    return tmp_path / "store"


@pytest.fixture
def config(store: Path) -> Config:
    """Settings for that store, with short waits."""
    return Config(store=str(store), workers=2, kill_after=0.3, grace=PATIENCE, max_retries=0, backoff_base=0.01)


@pytest.fixture
def silent_holder(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    """Something that holds that store and does not answer, until this is closed; patience with it is short."""
    monkeypatch.setattr(contention, "TIMEOUT", 0.1)
    store.mkdir(mode=0o700)
    lock = try_lock(store / "lock")
    assert lock is not None
    with ExitStack() as holder:
        holder.callback(os.close, lock)
        yield holder


@pytest.fixture
def start_pool(store: Path) -> Iterator[StartPool]:
    """Starts the real program's pool on the store, in a home that nobody else sees; returns its process when it serves.

    It is stopped at the end of the test."""
    started: list[subprocess.Popen[str]] = []
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AQUEUE_", "XDG_"))}

    def start(*args: str, **environ: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "aqueue", "worker", "start", *args],
            env={**kept, "HOME": str(store.parent / "home"), "AQUEUE_STORE": str(store), **environ},
            cwd=store.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("aqueue ")
        assert "stop with Ctrl-C" in process.stdout.readline()
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=PATIENCE)


class Pipe:
    """A named pipe: a command says with it that it is ready (`echo > PATH`), or waits for leave (`read x < PATH`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._read = b""

    async def read(self) -> str:
        """The next line that somebody writes."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._read:
            some = asyncio.Event()
            loop.add_reader(self.fd, some.set)
            try:
                await asyncio.wait_for(some.wait(), PATIENCE)
            finally:
                loop.remove_reader(self.fd)
            self._read += os.read(self.fd, 4096)
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def write(self, line: str = "go") -> None:
        """Let one of those who read go on."""
        os.write(self.fd, f"{line}\n".encode())


@pytest.fixture
def make_pipe(tmp_path: Path) -> Iterator[Callable[[str], Pipe]]:
    pipes: list[Pipe] = []

    def make(name: str) -> Pipe:
        pipes.append(Pipe(tmp_path / name))
        return pipes[-1]

    yield make
    for pipe in pipes:
        os.close(pipe.fd)


@pytest.fixture
def ready(make_pipe: Callable[[str], Pipe]) -> Pipe:
    """For a command to say that it is ready."""
    return make_pipe("ready")


@pytest.fixture
def go(make_pipe: Callable[[str], Pipe]) -> Pipe:
    """For a command to wait until it may go on."""
    return make_pipe("go")


def open_files() -> dict[int, str]:
    """This process's file descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


@pytest.fixture(name="open_files")
def _open_files() -> Callable[[], dict[int, str]]:
    return open_files


def children() -> list[psutil.Process]:
    """The processes that came from this one and have not ended."""
    return psutil.Process().children(recursive=True)


@pytest.fixture
def run_clean() -> RunClean:
    """Runs a program in an event loop of its own; when it has ended, no task, file or process may be left."""

    def run(program: Coroutine[None, None, None]) -> None:
        async def watched() -> set[str]:
            before = open_files()
            async with asyncio.timeout(PATIENCE):
                await program
            assert {what for fd, what in open_files().items() if fd not in before} == set()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.sleep(0)  # a task that was cancelled needs one turn to end
            return {task.get_name() for task in tasks if not task.done()}

        files, processes = open_files().keys(), children()
        assert asyncio.run(watched()) == set()
        assert open_files().keys() == files
        assert set(children()) <= set(processes)  # a guard of an earlier test's pool may still be on duty

    return run
