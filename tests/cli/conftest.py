"""The real program on a store of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest


class Cli:
    """`aqueue` as a person calls it, with a store, a home and a directory that nobody else sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AQUEUE_", "XDG_"))}
        self.environ = {**kept, "HOME": str(folder / "home"), "AQUEUE_STORE": str(self.store)}

    def start(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        """Begin a command; the caller waits for it."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        command = [sys.executable, "-m", "aqueue", *args]
        return subprocess.Popen(command, cwd=self.folder, env=self.environ, text=True, **streams)

    def __call__(self, *args: str, stdin: str | bytes = b"", status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, which must have this exit status."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        command = [sys.executable, "-m", "aqueue", *args]
        raw = subprocess.run(command, cwd=self.folder, env=self.environ, input=data, capture_output=True, timeout=60)
        done = subprocess.CompletedProcess(command, raw.returncode, raw.stdout.decode(), raw.stderr.decode())
        assert done.returncode == status, f"{args} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def refused(self, *args: str, status: int = 2, stdin: str | bytes = b"") -> str:
        """The one line of error with which a command must end, having printed nothing else."""
        done = self(*args, stdin=stdin, status=status)
        assert done.stdout == ""
        assert done.stderr.startswith("aqueue: ")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    def json(self, *args: str, status: int = 0) -> Any:
        return msgspec.json.decode(self(*args, status=status).stdout)

    def states(self) -> dict[str, str]:
        return {record["id"]: record["state"] for record in self.json("list", "--json")}

    def drain(self, status: int = 0) -> subprocess.CompletedProcess[str]:
        return self("worker", "start", "--drain", status=status)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)
