"""The README tells the truth: its commands and programs run, and its tables are those of the code.

Each section is a directory, a home and a store of its own, in which its blocks run from top to bottom. A ```sh block
is a script in which every command must succeed; a ```console block shows commands and what they print; a ```python
block is a program. An HTML comment before a block says what is special about it:

    pool            a pool runs meanwhile, as in another terminal
    foreground      the block is a pool that runs until Ctrl-C
    database        the queue is in an empty database
    whole library   takes a minute, so it runs only where WHOLE_STDLIB is set
    run, test       set up the project itself: .ci/run executes these
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

import aqueue
from aqueue.cli import COMMANDS
from aqueue.errors import BY_KIND
from aqueue.jobs.job import Job, State, utc_now
from aqueue.jobs.spec import FIELDS
from aqueue.settings.config import Config
from aqueue.settings.declarations import SETTINGS

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text("utf-8")
PATIENCE = 300.0
BY_CI = frozenset({"run", "test"})
_BLOCK = re.compile(r"(?:^<!-- (?P<mark>[\w ]+) -->\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    section: str
    kind: str
    mark: str
    body: str
    line: int


def blocks() -> list[Block]:
    found = []
    for match in _BLOCK.finditer(TEXT):
        headings = re.findall(r"^##+ (.+)$", TEXT[: match.start()], re.MULTILINE)
        line = TEXT.count("\n", 0, match.start("body")) + 1
        found.append(Block(headings[-1] if headings else "", match["kind"], match["mark"] or "", match["body"], line))
    return found


BLOCKS = blocks()
RUN = [block for block in BLOCKS if block.kind in ("sh", "console", "python") and block.mark not in BY_CI]
SECTIONS = list(dict.fromkeys(block.section for block in RUN))


class Reader:
    """Somebody who tries a section."""

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
        """A pool in another terminal; it must end well."""
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


def check(reader: Reader, block: Block) -> None:
    where = f"README.md, line {block.line}"
    if block.kind == "python":
        status, text = reader.run(sys.executable, "-W", "error", "-c", block.body)
        assert status == 0, f"{where}\n{text}"
    elif block.kind == "console":
        for command, expected in steps(block.body):
            _, text = reader.run("bash", "-c", command)
            assert comparable(text) == comparable(expected), f"{where}: {command}\n{text}"
    elif block.mark == "foreground":
        with reader.pool(re.sub("^aqueue", "exec aqueue", block.body)):
            pass
    else:
        status, text = reader.run("bash", "-exo", "pipefail", "-c", block.body)
        assert status == 0, f"{where}\n{text}"
        if block.mark == "whole library":
            assert re.search(r"^\d+ completed, \d+ dead, 0 cancelled", text, re.MULTILINE), f"{where}\n{text}"


@pytest.mark.parametrize("section", SECTIONS)
def test_what_a_section_shows_works(section: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    reader = Reader(tmp_path)
    for block in (block for block in RUN if block.section == section):
        if block.mark == "database":
            reader.environ["AQUEUE_STORE"] = request.getfixturevalue("database")
        if block.mark == "pool":
            with reader.pool():
                check(reader, block)
        elif block.mark != "whole library" or os.environ.get("WHOLE_STDLIB"):
            check(reader, block)


def test_marks_are_known_and_the_set_up_commands_are_there_for_ci() -> None:
    marks = [block.mark for block in BLOCKS if block.mark]
    assert set(marks) <= {"pool", "foreground", "database", "whole library", *BY_CI}
    assert sorted(mark for mark in marks if mark in BY_CI) == sorted(BY_CI)
    assert len(BLOCKS) == len(re.findall("^```", TEXT, re.MULTILINE)) / 2
    assert {block.kind for block in BLOCKS} == {"sh", "console", "python", "text"}


def table_after(heading: str) -> list[list[str]]:
    """The rows of the first table after a heading, without its titles."""
    section = re.split(rf"^##+ {re.escape(heading)}$", TEXT, flags=re.MULTILINE)[1]
    lines = re.split(r"^## ", section, flags=re.MULTILINE)[0].splitlines()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("|")]
    return rows[2:]


def test_the_table_of_settings_is_that_of_the_code() -> None:
    defaults = Config(store="`$XDG_DATA_HOME/aqueue`")
    shown = {name: getattr(defaults, name) for name in SETTINGS}
    plain = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in shown.items()}
    plain |= {"keep": "2592000", "timeout": "0"}
    expected = [[f"`{name}`", plain[name], setting.rule, setting.why] for name, setting in SETTINGS.items()]
    assert table_after("Settings") == expected


def test_the_table_of_exit_statuses_is_that_of_the_code() -> None:
    rows = {row[0]: row[2] for row in table_after("Exit statuses")}
    for name, error in BY_KIND.items():
        assert f"`{name}`" in rows[str(error.exit_code)]


def test_every_command_public_name_and_field_is_described() -> None:
    for command in COMMANDS:
        assert f"aqueue {command}" in TEXT
    for name in aqueue.__all__:
        assert f"`{name}" in TEXT or f"aqueue.{name}" in TEXT, name
    for name in FIELDS:
        assert f"`{name}`" in TEXT, name
    fields = [name for row in table_after("The record") for name in re.findall(r"`(\w+)`", row[0])]
    assert fields == list(Job(id="a", seq=1, command="true", created_at=utc_now()).record())
    assert all(f"`{state.value}`" in TEXT for state in State)


def test_links_and_files_that_the_readme_names_exist() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", TEXT):
        assert (README.parent / target).exists(), target
