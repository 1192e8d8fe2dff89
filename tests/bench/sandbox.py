"""A place for one measurement: a store, an environment without anybody's settings, the real program, a pool.

A sandbox is a directory that is removed at the end, and every process that was started in it is ended.
"""

import contextlib
import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from aqueue.settings.config import Config
from aqueue.system import connect_control_socket, control_socket_path

_SCRIPT = Path(sys.executable).with_name("aqueue")
AQUEUE = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-m", "aqueue"]
"""The program as a person calls it."""
PATIENCE = 120.0
"""Seconds after which something that should have happened is given up."""


class Sandbox:
    """A store of its own, and ways to use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.log = folder / "pool.log"
        self.config = Config(store=str(self.store))
        self.fifos: list[Fifo] = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AQUEUE_", "XDG_"))}
        self.environ = {**kept, "HOME": str(folder), "AQUEUE_STORE": str(self.store)}

    def fifo(self, name: str) -> "Fifo":
        """A new named pipe, for as long as this sandbox."""
        self.fifos.append(Fifo(self.folder / name))
        return self.fifos[-1]

    def seconds(self, *command: str, stdin: Path | None = None) -> float:
        """How long a command takes, from before its process is made until it has ended. It must succeed.
        What it prints is in the file `printed`."""
        with open(stdin or os.devnull, "rb") as source, open(self.folder / "printed", "w+b") as printed:
            began = time.perf_counter()
            status = subprocess.run(
                command, stdin=source, stdout=printed, stderr=printed, env=self.environ, cwd=self.folder, check=False
            ).returncode
            took = time.perf_counter() - began
            if status:
                printed.seek(0)
                raise RuntimeError(f"{command[:4]} exited {status}: {printed.read(500).decode(errors='replace')}")
        return took

    def aqueue(self, *args: str, stdin: Path | None = None) -> float:
        """How long `aqueue` takes with these arguments."""
        return self.seconds(*AQUEUE, *args, stdin=stdin)

    def drain(self, *args: str) -> float:
        """How long a pool takes that runs all there is to run; what it reports goes into a file, as always."""
        with open(self.log, "ab") as log:
            began = time.perf_counter()
            subprocess.run(
                [*AQUEUE, "worker", "start", "--drain", *args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environ,
                cwd=self.folder,
                check=True,
            )
            return time.perf_counter() - began

    @contextlib.contextmanager
    def started(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """A process beside the measurement; it is stopped at the end, if need be by force."""
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environ, cwd=self.folder
            )
        try:
            yield process
        finally:
            stop(process)

    @contextlib.contextmanager
    def pool(self, *args: str) -> Iterator[int]:
        """A pool in another process, and its pid, once it serves."""
        with self.started(*AQUEUE, "worker", "start", *args) as process:
            line: list[socket.socket] = []

            def answers() -> bool:
                if process.poll() is not None:
                    raise RuntimeError(f"the pool ended: {self.log.read_text()[-500:]}")
                there = connect_control_socket(control_socket_path(self.store)) if self.store.exists() else None
                line.extend([there] if there is not None else [])
                return there is not None

            until(answers, every=0.01)
            line[0].close()
            yield process.pid


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process as Ctrl-C pressed again and again does, and at last by force."""
    for _ in range(100):
        if process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait()


@contextlib.contextmanager
def sandbox() -> Iterator[Sandbox]:
    """A sandbox for the length of a `with` block."""
    folder = Path(tempfile.mkdtemp(prefix="aqueue-bench-"))
    box = Sandbox(folder)
    try:
        yield box
    except BaseException:
        _end_orphans(box)
        raise
    finally:
        for fifo in box.fifos:
            fifo.close()
        shutil.rmtree(folder, ignore_errors=True)


def _end_orphans(box: Sandbox) -> None:
    """End what was started in a sandbox that is left by an error, and the commands that outlived their pool."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("AQUEUE_STORE") == str(box.store):
                process.kill()


class Fifo:
    """A named pipe into which commands write lines, so that their first instruction is seen when it happens."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._fd)

    def lines(self) -> list[str]:
        """What was written since the last call, at least one line; blocks until there is one."""
        if not select.select([self._fd], [], [], PATIENCE)[0]:
            raise RuntimeError("no command has started")
        return os.read(self._fd, 1 << 16).decode().splitlines()

    def write(self, text: str) -> None:
        """Give a line to a command that reads from the pipe."""
        os.write(self._fd, text.encode())

    def count(self, number: int) -> None:
        """Return when `number` lines have been written."""
        while number > 0:
            number -= len(self.lines())


def until(happened: Callable[[], bool], every: float = 0.05) -> None:
    """Return when `happened` is true; looked at every so many seconds."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > deadline:
            raise RuntimeError("waited in vain")
        time.sleep(every)


def medians(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """The median of each measure; they take turns, so that what else the machine does meets them all."""
    taken = [[measure() for measure in measures] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
