"""How the program starts: fast, with one line where it is misused, and with completion."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from aqueue.cli import COMMANDS
from tests.cli.conftest import Cli
from tests.conftest import StartPool

SLOW = (
    "anyio",
    "rich",
    "tomlkit",
    "psutil",
    "tomllib",
    "aqueue.pool",
    "aqueue.attempts.runner",
    "aqueue.attempts.files",
)
"""Modules that a command which only queues a job has no use for."""


def modules_of(cli: Cli, *words: str) -> set[str]:
    """What a command has loaded when it is done."""
    code = "import sys; from aqueue.cli import _run; _run(); sys.stderr.write(' '.join(sys.modules))"
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=cli.folder, env=cli.environ, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return set(done.stderr.split())


def test_queueing_to_a_pool_loads_nothing_that_it_does_not_need(cli: Cli, start_pool: StartPool) -> None:
    start_pool("--queue", "none")
    loaded = modules_of(cli, "enqueue", "true")
    assert loaded & {*SLOW, "asyncio", "aqueue.control.service", "aqueue.control.waiting"} == set()
    assert "aqueue.control.transport" in loaded


def test_queueing_without_a_pool_loads_nothing_of_a_pool(cli: Cli) -> None:
    loaded = modules_of(cli, "enqueue", "true")
    assert loaded & set(SLOW) == set()
    assert "aqueue.control.service" in loaded
    assert list(cli.states().values()) == ["pending"]


def test_a_database_without_its_driver_says_what_to_install(cli: Cli) -> None:
    cli.environ["AQUEUE_STORE"] = "postgresql://me@127.0.0.1:1/db"
    code = "import sys; sys.modules['psycopg'] = None; from aqueue.cli import main; main()"
    command = [sys.executable, "-c", code, "enqueue", "true"]
    done = subprocess.run(command, cwd=cli.folder, env=cli.environ, capture_output=True, text=True)
    assert done.returncode == 5
    assert done.stderr.startswith("aqueue: a database needs psycopg (")
    assert done.stderr.endswith("): pip install 'psycopg[binary]>=3.2'\n")


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version").stdout == f"aqueue {version('aqueue-shell')}\n"


@pytest.mark.slow
def test_help_lists_every_command_and_each_has_help(cli: Cli) -> None:
    text = cli("--help").stdout
    for command in COMMANDS:
        assert f" {command} " in text
        assert cli(command, "--help").stdout
    assert cli().stdout == text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["enqueue"], "no command given"),
        (["enqueue", "a", "b"], "unexpected extra argument"),
        (["enqueue", "x", "--priority", "high"], "--priority"),
        (["enqueue", "x", "--delay", "10x"], "'10x' must be seconds, or a duration"),
        (["enqueue", "x", "--at", "soon"], "'soon' must be a time"),
        (["enqueue", "x", "--env", "A"], "--env 'A' must be NAME=VALUE"),
        (["enqueue", "x", "--command", "y"], "more than one way"),
        (["enqueue", '{"command":"x","id":"a"}', "--id", "b"], "id is given twice"),
        (["enqueue", '[{"command":"x"},{"command":"y"}]', "--id", "b"], "--id names one job"),
        (["enqueue", "x", "--max-retries", "-1"], "max_retries -1 is out of range"),
        (["enqueue", "--file", "none.jsonl"], "none.jsonl: cannot read this file: No such file"),
        (["enqueue", "--"], "command is empty"),
        (["enqueue", " "], "command is empty"),
        (["list", "--state", "zombie"], "zombie"),
        (["remove"], "give ids, or --state and --older-than"),
        (["remove", "a", "--state", "dead"], "not both"),
        (["remove", "--state", "pending"], "only jobs that have ended"),
        (["wait"], "give ids or --all"),
        (["wait", "a", "--all"], "not both"),
        (["dlq", "retry"], "give ids or --all"),
        (["cancel"], "no job given"),
        (["worker", "start", "--count", "0"], "--count"),
        (["worker", "start", "--queue", "../x"], "queue '../x' is not allowed"),
        (["config", "set", "workers", "0"], "workers must be a whole number"),
        (["config", "get", "nothing"], "unknown setting 'nothing'"),
        (["--config", "none.toml", "status"], "none.toml: cannot read this config file"),
        (["status", "--config", "none.toml"], "none.toml: cannot read this config file"),
    ],
)
def test_misuse_is_one_line_and_exit_status_2(cli: Cli, args: list[str], named: str) -> None:
    assert named in cli.refused(*args)
    assert not cli.store.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "status"), [("list", 0), ("enqueue true", 0), ("enqueue -", 0), ("status --json", 0), ("show x", 4)]
)
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_an_empty_one(cli: Cli, command: str, status: int, closed: str) -> None:
    script = f"{sys.executable} -m aqueue {command} {closed}"
    done = subprocess.run(
        script, shell=True, cwd=cli.folder, env=cli.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == status
    assert "Traceback" not in done.stderr


def test_text_that_the_terminal_has_no_letters_for_is_escaped(cli: Cli) -> None:
    cli.environ["PYTHONIOENCODING"] = "ascii"
    cli("enqueue", "echo hé", "--id", "a")
    assert r"echo h\xe9" in cli("list").stdout
    assert cli.json("show", "a", "--json")["command"] == "echo hé"
    assert r"echo h\xe9" in cli.drain().stdout
    assert "hé" in cli("logs", "a").stdout


def test_a_store_with_a_newline_in_its_path_forges_no_line(cli: Cli) -> None:
    cli.environ["AQUEUE_STORE"] = str(cli.folder / "a\nb")
    for words in (["status"], ["worker", "start", "--drain"], ["doctor"], ["doctor", "--repair"]):
        done = cli(*words)
        assert "a\nb" not in done.stdout + done.stderr
        assert r"a\nb" in done.stdout + done.stderr


def test_commands_states_and_settings_complete(cli: Cli) -> None:
    def complete(words: str) -> list[str]:
        environ = {"_AQUEUE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = subprocess.run(
            [sys.executable, "-m", "aqueue"],
            env={**cli.environ, **environ},
            cwd=cli.folder,
            capture_output=True,
            text=True,
        )
        return done.stdout.split()

    assert complete("aqueue sta") == ["status"]
    assert complete("aqueue list --state de") == ["dead"]
    assert complete("aqueue config set max-r") == ["max-retries"]
    cli("enqueue", "true", "--id", "convert-1")
    assert complete("aqueue show conv") == ["convert-1"]
