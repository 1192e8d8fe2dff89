"""What tests of every part share: a store of their own, a pool in this process or another, and a look at what is left."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import psutil
import pytest

from aqueue.config import Config

PATIENCE = 30.0
"""Seconds after which a test that still waits has failed. Nothing is expected to take that long."""

StartPool = Callable[..., "subprocess.Popen[str]"]
RunClean = Callable[[Coroutine[None, None, None]], None]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store of the test's own can be made."""
    return tmp_path / "store"


@pytest.fixture
def config(store: Path) -> Config:
    """Settings for that store, with short waits."""
    return Config(store=str(store), workers=2, kill_after=0.3, grace=PATIENCE, max_retries=0, backoff_base=0.01)


@pytest.fixture
def start_pool(store: Path) -> Iterator[StartPool]:
    """Starts the real program's pool on the store, and returns its process when it serves."""
    started: list[subprocess.Popen[str]] = []
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AQUEUE_")}

    def start(*args: str, **environ: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "aqueue", "worker", "start", *args],
            env={**kept, "AQUEUE_STORE": str(store), **environ},
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


def open_files() -> dict[int, str]:
    """This process's file descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def children() -> list[psutil.Process]:
    """The processes that came from this one and have not ended."""
    return psutil.Process().children(recursive=True)


@pytest.fixture
def run_clean() -> RunClean:
    """Runs a program in an event loop of its own; when it has ended, no task, file or process may be left."""

    def run(program: Coroutine[None, None, None]) -> None:
        async def watched() -> set[str]:
            before = open_files()
            await asyncio.wait_for(program, PATIENCE)
            assert {what for fd, what in open_files().items() if fd not in before} == set()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.sleep(0)  # a task that was cancelled needs one turn to end
            return {task.get_name() for task in tasks if not task.done()}

        files = open_files().keys()
        assert asyncio.run(watched()) == set()
        assert open_files().keys() == files
        assert children() == []

    return run
