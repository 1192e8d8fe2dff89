"""Two terminals: a pool in one, everything else from another."""

import signal
import sys

import msgspec
import pytest

from tests.cli.conftest import Cli
from tests.conftest import StartPool


def test_a_job_queued_from_another_terminal_runs_and_is_waited_for(cli: Cli, start_pool: StartPool) -> None:
    process = start_pool("--count", "2")
    assert cli("enqueue", "--wait", "--id", "a", "exit 5", "--max-retries", "0", status=5).stdout == "a\n"
    assert cli("enqueue", "--wait", "--id", "b", "echo hi").stdout == "b\n"
    assert cli("enqueue", "--wait", "--id", "c", "kill -9 $$", "--max-retries", "0", status=137).stdout == "c\n"
    assert cli.states() == {"a": "dead", "b": "completed", "c": "dead"}
    done = cli("worker", "stop")
    assert f"(pid {process.pid}) has stopped" in done.stderr
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    lines = [line.split()[1:3] for line in output.splitlines()]
    assert lines[:4] == [["a", "started"], ["a", "dead"], ["b", "started"], ["b", "completed"]]


def test_the_pool_is_seen_from_another_terminal(cli: Cli, start_pool: StartPool) -> None:
    process = start_pool("--count", "3")
    cli("enqueue", "sleep 60", "--id", "a")
    cli.json("list", "--json")
    status = cli.json("worker", "status", "--json")
    assert (status["pid"], status["workers"]) == (process.pid, 3)
    assert [slot["job"]["id"] for slot in status["busy"]] == ["a"]
    text = cli("worker", "status").stdout
    assert f"pid {process.pid}" in text
    assert "sleep 60" in text
    assert cli("cancel", "a").stdout == "a\n"
    assert cli.states() == {"a": "cancelled"}


def test_a_second_pool_is_refused_and_told_of_the_first(cli: Cli, start_pool: StartPool) -> None:
    process = start_pool()
    assert str(process.pid) in cli.refused("worker", "start", status=6)


def test_a_signal_stops_gracefully_and_a_second_at_once(cli: Cli, start_pool: StartPool) -> None:
    process = start_pool("--grace", "60s")
    cli("enqueue", "sleep 60", "--id", "a")
    assert process.stdout is not None
    assert process.stdout.readline().split()[1:3] == ["a", "started"]
    process.send_signal(signal.SIGINT)
    assert "1 command has up to 1 min to end" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "interrupted" in output
    record = cli.json("show", "a", "--json")
    assert (record["state"], record["attempts"]) == ("pending", 0)


def test_commands_that_are_left_running_are_nothing_to_warn_of(cli: Cli, start_pool: StartPool) -> None:
    process = start_pool()
    cli("enqueue", "until [ -e go ]; do sleep 0.02; done", "--id", "a")
    assert process.stdout is not None
    assert process.stdout.readline().split()[1:3] == ["a", "started"]
    cli("worker", "stop", "--leave-running")
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output.count("\n"), errors) == (0, 1, "")
    (cli.folder / "go").touch()
    assert cli("worker", "start", "--drain").stdout.count("completed") == 2
    assert cli.states() == {"a": "completed"}


@pytest.mark.slow
def test_a_drain_retries_ends_and_sums_up(cli: Cli) -> None:
    cli("enqueue", '[{"id":"a","command":"exit 1","max_retries":1,"backoff_base":0.1},{"id":"b","command":"true"}]')
    cli("enqueue", "true", "--id", "later", "--delay", "1h")
    done = cli.drain(status=1)
    assert done.stdout.splitlines()[-1].startswith("1 completed, 1 dead, 0 cancelled, in ")
    assert cli.states() == {"a": "dead", "b": "completed", "later": "pending"}
    assert cli.drain().stdout.splitlines()[-1].startswith("0 completed")


def test_the_log_for_machines_is_json_and_nothing_else(cli: Cli) -> None:
    cli("enqueue", "exit 3", "--id", "a", "--max-retries", "0")
    done = cli("worker", "start", "--drain", "--log-format", "json", status=1)
    start, end = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    assert (start["event"], start["state"], start["id"]) == ("start", "processing", "a")
    assert (end["event"], end["state"], end["exit_code"], end["attempt"]) == ("end", "dead", 3, 1)


def test_only_the_queues_asked_for_are_served(cli: Cli) -> None:
    cli("enqueue", '[{"id":"a","command":"true","queue":"x"},{"id":"b","command":"true","queue":"y"}]')
    cli("worker", "start", "--drain", "--queue", "x")
    assert cli.states() == {"a": "completed", "b": "pending"}


def test_output_is_followed_while_it_comes(cli: Cli, start_pool: StartPool) -> None:
    start_pool()
    cli("enqueue", "echo one; while ! test -e go; do sleep 0.05; done; echo two", "--id", "a")
    process = cli.start("logs", "a", "--follow")
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"
    (cli.folder / "go").touch()
    output, _ = process.communicate(timeout=30)
    assert (output, process.returncode) == ("two\n", 0)


def test_a_running_pool_takes_a_changed_setting_over(cli: Cli, start_pool: StartPool) -> None:
    start_pool("--count", "1")
    done = cli("config", "set", "kill-after", "1s")
    assert "the running pool" in done.stderr


def test_what_a_job_queues_goes_to_its_own_queue(cli: Cli, start_pool: StartPool) -> None:
    start_pool()
    inner = f"cd {cli.folder} && {sys.executable} -m aqueue enqueue true --id inner"
    cli("enqueue", "--wait", "--queue", "q", "--id", "outer", inner)
    assert cli.json("show", "inner", "--json")["queue"] == "q"


def test_everything_unfinished_can_be_waited_for(cli: Cli, start_pool: StartPool) -> None:
    start_pool()
    cli("enqueue", '[{"id":"a","command":"sleep 0.2"},{"id":"b","command":"sleep 0.1"}]')
    assert set(cli("wait", "--all").stdout.splitlines()) <= {"a completed", "b completed"}
    assert cli.states() == {"a": "completed", "b": "completed"}
