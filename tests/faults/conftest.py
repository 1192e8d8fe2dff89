"""The real program on a store of its own, with faults in it where a test asks for them."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from aqueue.control.client import Client
from aqueue.control.requests import Enqueue, Find, Jobs, Request
from aqueue.control.waiting import wait_for_jobs
from aqueue.jobs.job import Job, State
from aqueue.jobs.spec import Defaults, JobSpec
from aqueue.settings.config import Config

PATIENCE = 30.0
"""Seconds after which what a test waits for counts as never coming."""


def eventually(look: Callable[[], Any], what: str = "what was waited for") -> Any:
    """What `look` returns once that is true; other processes have no way to tell a test."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.005)
    return found


class Broken:
    """A store in a directory of its own, and the pools and commands that use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AQUEUE_", "XDG_"))}
        settings = {"AQUEUE_STORE": str(self.store), "AQUEUE_MAX_INTERRUPTIONS": "1000", "AQUEUE_KILL_AFTER": "0.5"}
        self.environ = {**kept, "HOME": str(folder), **settings}
        self.pools: list[subprocess.Popen[str]] = []

    # The program

    def popen(self, *args: str, fault: dict[str, Any] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Begin a command, with a fault as `sabotaged.py` describes it."""
        program = (
            ["-m", "aqueue"] if fault is None else [str(Path(__file__).with_name("sabotaged.py")), json.dumps(fault)]
        )
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        command = [sys.executable, *program, *args]
        return subprocess.Popen(command, cwd=self.folder, env=self.environ, text=True, **{**streams, **options})

    def run(self, *args: str, fault: dict[str, Any] | None = None, **options: Any) -> tuple[int, str]:
        """Run a command to its end; return its exit status and all it printed."""
        process = self.popen(*args, fault=fault, **options)
        output = process.communicate(timeout=2 * PATIENCE)[0]
        return process.returncode, output

    def pool(
        self, *args: str, fault: dict[str, Any] | None = None, wait: bool = True, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a pool; return when it serves (or, not to `wait`, at once). It is ended with the test."""
        log = open(self.folder / f"pool-{len(self.pools)}.log", "w")  # noqa: SIM115 - the pool's
        with log:
            pool = self.popen("worker", "start", *args, fault=fault, stdout=log, **options)
        self.pools.append(pool)
        if wait:
            eventually(lambda: "stop with Ctrl-C" in self.log() or pool.poll() is not None, "the pool")
        return pool

    def log(self) -> str:
        """What the latest pool has printed so far."""
        return (self.folder / f"pool-{len(self.pools) - 1}.log").read_text()

    def drain(self) -> None:
        """Let a healthy pool do all that is left; one job that is dead makes its exit status 1."""
        status, output = self.run("worker", "start", "--drain", "--count", "4")
        assert status in (0, 1), output

    # What is in the store

    def ask(self, request: Request) -> list[Job]:
        """The jobs of an answer. Raises what the program would report."""
        with Client(Config(str(self.store), max_interruptions=1000)) as client:
            return [job for part in client.ask(request) if isinstance(part, Jobs) for job in part.jobs]

    def enqueue(self, command: str, **fields: Any) -> Job:
        """Queue a job; when this returns, it was acknowledged."""
        spec = JobSpec(command=command, **fields).with_defaults(Defaults(max_retries=0), cwd=str(self.folder))
        return self.ask(Enqueue([spec]))[0]

    def jobs(self) -> dict[str, Job]:
        return {job.id: job for job in self.ask(Find(output=True))}

    def job(self, name: str) -> Job:
        return self.jobs()[name]

    def ended(self, name: str) -> Job:
        """The job once it has ended."""
        with Client(Config(str(self.store))) as client:
            return next(wait_for_jobs(client, [name], PATIENCE))

    def left_processing(self) -> list[str]:
        return [job.id for job in self.ask(Find(states=[State.PROCESSING]))]

    def processes(self) -> list[psutil.Process]:
        """What runs on behalf of this store: pools, commands, and what these started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("AQUEUE_STORE") == str(self.store)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def clean_up(self) -> None:
        while processes := self.processes():
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        for pool in self.pools:
            pool.wait()


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Broken]:
    store = Broken(tmp_path)
    yield store
    store.clean_up()


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually
