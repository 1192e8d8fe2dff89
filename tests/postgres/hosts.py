"""Pools on one database as on several hosts: each has a directory of its own, and a URL of its own for the database."""

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg

from aqueue.control.client import Client
from aqueue.control.requests import Cancel, Enqueue, Find, Jobs, Request, Retry
from aqueue.control.waiting import wait_for_jobs
from aqueue.jobs.job import Job
from aqueue.jobs.spec import Defaults, JobSpec
from aqueue.settings.config import Config

PATIENCE = 30.0
"""Seconds after which what a test waits for counts as never coming."""
LEASE = 6.0
"""Seconds; the shortest that is allowed."""


def eventually(look: Callable[[], Any], what: str = "what was waited for", seconds: float = PATIENCE) -> Any:
    """What `look` returns once that is true; for what other processes do not announce to a test."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)
    return found


class Host:
    """A directory, and the pools that are started in it, one after the other."""

    def __init__(self, folder: Path, url: str, environ: dict[str, str]) -> None:
        folder.mkdir()
        self.folder = folder
        self.work = folder.parent
        self.log_file = folder / "log"
        self.url = url
        own = {"AQUEUE_STORE": url, "AQUEUE_DIRECTORY": str(folder / "files"), "AQUEUE_LEASE": f"{LEASE:g}"}
        self.environ = {**environ, "HOME": str(folder), "AQUEUE_KILL_AFTER": "1", **own}
        self.pools: list[subprocess.Popen[str]] = []

    def popen(self, *args: str, program: tuple[str, ...] = ("-m", "aqueue"), **options: Any) -> "subprocess.Popen[str]":
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        command = [sys.executable, *program, *args]
        return subprocess.Popen(command, cwd=self.work, env=self.environ, text=True, **{**streams, **options})

    def run(self, *args: str) -> tuple[int, str]:
        """Run a command to its end; return its exit status and all it printed."""
        process = self.popen(*args)
        output = process.communicate(timeout=2 * PATIENCE)[0]
        return process.returncode, output

    def start(self, *args: str, wait: bool = True, **options: Any) -> "subprocess.Popen[str]":
        """Start a pool, and return when it serves (or, not to `wait`, at once)."""
        with open(self.log_file, "a") as log:
            before = self.log().count("stop with Ctrl-C")
            pool = self.popen("worker", "start", *args, stdout=log, **options)
        self.pools.append(pool)
        if wait:
            eventually(lambda: self.log().count("stop with Ctrl-C") > before or pool.poll() is not None, "the pool")
            assert pool.poll() is None, self.log()
        return pool

    @property
    def pool(self) -> "subprocess.Popen[str]":
        return self.pools[-1]

    def log(self) -> str:
        """What its pools have printed so far."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def processes(self) -> list[psutil.Process]:
        """What runs on behalf of this host: pools, watchdogs, commands."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("AQUEUE_DIRECTORY") == self.environ["AQUEUE_DIRECTORY"]
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def watchdogs(self) -> list[psutil.Process]:
        return [process for process in self.processes() if "aqueue.attempts.watchdog" in _words(process)]

    def commands(self) -> list[psutil.Process]:
        """The processes of its jobs."""
        return [
            process for process in self.processes() if not {"aqueue", "aqueue.attempts.watchdog"} & set(_words(process))
        ]


class Hosts:
    """Hosts that share a database, and a look at it past all proxies."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.config = Config(url, directory=str(folder / "client"))
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(("AQUEUE_", "XDG_"))}
        self.all: list[Host] = []

    def add(self, url: str = "", **settings: str) -> Host:
        """One more host; `url` is how it reaches the database."""
        host = Host(self.folder / f"host{len(self.all)}", url or self.url, {**self.environ, **settings})
        self.all.append(host)
        return host

    def ask(self, request: Request) -> list[Job]:
        """The jobs of an answer. Raises what the program would report."""
        with Client(self.config) as client:
            return [job for part in client.ask(request) if isinstance(part, Jobs) for job in part.jobs]

    def enqueue(self, command: str, **fields: Any) -> Job:
        return self.enqueue_many(command, 1, **fields)[0]

    def enqueue_many(self, command: str, count: int, **fields: Any) -> list[Job]:
        defaults, cwd = Defaults(max_retries=0, backoff_base=0), str(self.folder)
        specs = [JobSpec(**{"command": command, "cwd": cwd, **fields}) for _ in range(count)]
        return self.ask(Enqueue([spec.with_defaults(defaults, cwd) for spec in specs]))

    def cancel(self, job_id: str) -> Job:
        return self.ask(Cancel([job_id]))[0]

    def retry(self, job_id: str) -> Job:
        return self.ask(Retry([job_id]))[0]

    def jobs(self) -> dict[str, Job]:
        return {job.id: job for job in self.ask(Find(output=True))}

    def job(self, job_id: str) -> Job:
        return self.jobs()[job_id]

    def ended(self, *names: str) -> Job:
        """The last of the jobs, once all have ended."""
        with Client(self.config) as client:
            return list(wait_for_jobs(client, names, PATIENCE))[-1]

    def sql(self, statement: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    # What commands leave behind

    def working(self, seconds: float, then: str = "true") -> str:
        """A command that says ten times a second, for so long, that its attempt is alive."""
        count = int(seconds * 10)
        beat = f'echo "$AQUEUE_JOB_ID $AQUEUE_TOKEN $(date +%s.%N)" >>{self.folder}/alive'
        return f"for i in $(seq {count}); do {beat}; sleep 0.1; done; {then}"

    def lives(self) -> dict[str, list[tuple[float, float]]]:
        """For each job, from when to when its attempts were seen alive, in order."""
        path = self.folder / "alive"
        seen: dict[tuple[str, str], list[float]] = defaultdict(list)
        for line in path.read_text().splitlines() if path.exists() else ():
            job_id, token, moment = line.split()
            seen[job_id, token].append(float(moment))
        lives = defaultdict(list)
        for (job_id, _), moments in seen.items():
            lives[job_id].append((min(moments), max(moments)))
        return {job_id: sorted(attempts) for job_id, attempts in lives.items()}

    def assert_never_two_at_once(self) -> None:
        for job_id, attempts in self.lives().items():
            for (_, end), (start, _) in itertools.pairwise(attempts):
                assert end < start, f"two attempts of {job_id} at once: {attempts}"

    def clean_up(self) -> None:
        """Kill what is left, and print the logs, for a test that has failed."""
        while processes := [process for host in self.all for process in host.processes()]:
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        for host in self.all:
            sys.stdout.write(f"--- {host.folder.name}\n{host.log()}")
            for pool in host.pools:
                pool.wait()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
