"""Somebody who tries what a document shows, in a directory, a home and a store of their own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 300.0


class Reader:
    """Runs commands as a reader would in a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        unwanted = ("AQUEUE_", "XDG_", "PYTEST_", "NO_COLOR")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        self.environ = {**kept, "PATH": path, "HOME": str(folder)}

    def start(self, *command: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environ,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command; return its exit status and what it printed."""
        process = self.start(*command)
        try:
            text, _ = process.communicate(timeout=PATIENCE)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return process.returncode, text

    @contextmanager
    def pool(self, script: str = "exec aqueue worker start --grace 0") -> Iterator[None]:
        """A pool in another terminal, stopped with Ctrl-C; it must end well."""
        process = self.start("bash", "-ec", script)
        assert process.stdout is not None
        try:
            seen = process.stdout.readline() + process.stdout.readline()
            assert "stop with Ctrl-C" in seen, seen + process.stdout.read()
            yield
        finally:
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, rest


def steps(body: str) -> list[tuple[str, str]]:
    """The commands of a ```console block, each with what it prints."""
    parts = re.split(r"^\$ ", body, flags=re.MULTILINE)
    assert parts[0] == "", "a console block starts with a command"
    return [(command, output) for command, _, output in (part.partition("\n") for part in parts[1:])]


def comparable(text: str) -> list[str]:
    """Lines without what differs from run to run: times, process numbers, places, spacing, and the order in which
    workers come to do things."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    text = re.sub(r"\d\d:\d\d:\d\d", "CLOCK", text)
    text = re.sub(r"\b(in |for )?\d+(\.\d+)? (ms|s|min|h|d)\b( \d+ (s|min|h)\b)?( ago)?|\bnow\b", "WHILE", text)
    text = re.sub(r"\bpid +\d+", "pid N", text)
    text = re.sub(r"(?<=\s)/\S+/\.local/share/aqueue", "STORE", text)
    return sorted(" ".join(line.split()) for line in text.splitlines() if line.strip())
