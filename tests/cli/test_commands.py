"""Every command on a real store, with no pool beside it."""

import os
import subprocess
import sys
import tomllib
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from aqueue.settings.declarations import SETTINGS
from tests.cli.conftest import Cli


def test_each_way_to_queue_prints_the_ids_and_nothing_else(cli: Cli) -> None:
    assert cli("enqueue", '{"id":"job1","command":"echo hello"}').stdout == "job1\n"
    assert cli("enqueue", '[{"id":"a","command":"x"},{"id":"b","command":"y"}]').stdout == "a\nb\n"
    assert cli("enqueue", "--id", "job2", "--command", "{ echo hello; }").stdout == "job2\n"
    assert cli("enqueue", "--id", "job3", "--", "ffmpeg", "-i", "my film.mp4", "--", "out").stdout == "job3\n"
    made = cli("enqueue", "echo hello").stdout.split()
    assert len(made) == 1
    records = {record["id"]: record for record in cli.json("list", "--json")}
    assert list(records) == ["job1", "a", "b", "job2", "job3", made[0]]
    assert records["job2"]["command"] == "{ echo hello; }"
    assert records["job3"]["command"] == "ffmpeg -i 'my film.mp4' -- out"
    assert records["job1"]["cwd"] == str(cli.folder)


def test_files_and_stdin_are_read_line_by_line(cli: Cli) -> None:
    (cli.folder / "jobs.jsonl").write_text('{"id":"a","command":"x"}\n\n{"id":"b","command":"y"}\n')
    assert cli("enqueue", "--file", "jobs.jsonl").stdout == "a\nb\n"
    assert len(cli("enqueue", "-", stdin="echo 1\necho 2\n").stdout.split()) == 2
    assert [record["command"] for record in cli.json("list", "--json")] == ["x", "y", "echo 1", "echo 2"]


def test_a_long_batch_is_stored_whole_and_in_order(cli: Cli) -> None:
    data = "".join(f'{{"id":"j{number}","command":"true"}}\n' for number in range(2500))
    assert cli("enqueue", "-", stdin=data).stdout.split() == [f"j{number}" for number in range(2500)]
    assert cli.json("status", "--json")["counts"]["pending"] == 2500


def test_options_fill_every_field(cli: Cli) -> None:
    record = cli.json(
        "enqueue", "x", "--json", "--id", "a", "--queue", "q", "--priority", "-5", "--at", "2036-12-01T03:00:00Z",
        "--timeout", "5m", "--max-retries", "0", "--backoff-base", "1.5", "--backoff-max", "1h30m",
        "--backoff-jitter", "0.5", "--cwd", ".", "--env", "A=b=c",
        "--env", "E=", "--tag", "t", "--tag", "u",
    )[0]  # fmt: skip
    expected = {
        "id": "a", "command": "x", "state": "pending", "queue": "q", "priority": -5, "run_at": "2036-12-01T03:00:00Z",
        "timeout": 300, "max_retries": 0, "backoff_base": 1.5, "backoff_max": 5400, "backoff_jitter": 0.5,
        "cwd": str(cli.folder), "env": {"A": "b=c", "E": ""},
        "tags": ["t", "u"], "attempts": 0, "exit_code": None, "history": [],
    }  # fmt: skip
    assert {name: record[name] for name in expected} == expected


def test_json_is_read_as_options_are(cli: Cli) -> None:
    asked = {"command": "x", "timeout": "5m", "backoff_max": "1h30m", "run_at": "2036-12-01T03:00", "cwd": "sub"}
    by_json = cli.json("enqueue", msgspec.json.encode(asked).decode(), "--json")[0]
    place = ["--at", "2036-12-01T03:00", "--cwd", "sub"]
    by_option = cli.json("enqueue", "x", "--timeout", "5m", "--backoff-max", "1h30m", *place, "--json")[0]
    for name in asked:
        assert by_json[name] == by_option[name], name
    assert by_json["cwd"] == str(cli.folder / "sub")
    (record,) = cli.json("enqueue", '{"command":"x","delay":"10s"}', "--json")
    wait = datetime.fromisoformat(record["run_at"]) - datetime.fromisoformat(record["created_at"])
    assert wait.total_seconds() == 10


@pytest.mark.parametrize(
    "words", [["x", "--timeout", "0"], ['{"command":"x","timeout":0}'], ['{"command":"x","timeout":null}']]
)
def test_no_time_limit_can_be_asked_for_where_the_settings_give_one(cli: Cli, words: list[str]) -> None:
    cli.environ["AQUEUE_TIMEOUT"] = "5m"
    assert cli.json("enqueue", "x", "--json")[0]["timeout"] == 300
    assert cli.json("enqueue", *words, "--json")[0]["timeout"] is None


def test_an_option_fills_what_the_json_does_not_say(cli: Cli) -> None:
    (record,) = cli.json("enqueue", '{"command":"x"}', "--queue", "q", "--json")
    assert record["queue"] == "q"


def test_a_duplicate_is_exit_status_3_and_nothing_is_stored(cli: Cli) -> None:
    cli("enqueue", "x", "--id", "a")
    assert "a" in cli.refused("enqueue", '[{"id":"b","command":"x"},{"id":"a","command":"y"}]', status=3)
    assert "twice" in cli.refused("enqueue", '[{"id":"c","command":"x"},{"id":"c","command":"y"}]', status=3)
    assert "line 2" in cli.refused("enqueue", "-", stdin='{"id":"c","command":"x"}\n' * 2, status=3)
    assert cli.states() == {"a": "pending"}


def test_an_empty_batch_is_not_waited_for(cli: Cli) -> None:
    cli("enqueue", "true", "--id", "waits")
    assert cli("enqueue", "--wait", "-").stdout == ""
    assert cli.json("enqueue", "--wait", "--json", "[]") == []


def test_if_absent_leaves_the_job_that_exists(cli: Cli) -> None:
    cli("enqueue", "first", "--id", "a")
    assert cli("enqueue", "second", "--id", "a", "--if-absent").stdout == "a\n"
    assert cli.json("show", "a", "--json")["command"] == "first"


def test_a_bad_line_late_in_a_batch_stores_nothing(cli: Cli) -> None:
    assert "line 2002: max_retries must be" in cli.refused(
        "enqueue", "-", stdin="true\n" * 2001 + '{"command":"x","max_retries":"abc"}\n'
    )
    assert cli.states() == {}


@pytest.mark.slow
def test_lists_are_filtered(cli: Cli) -> None:
    cli(
        "enqueue",
        '[{"id":"a","command":"x","queue":"q"},{"id":"b","command":"x","tags":["t"]},{"id":"c","command":"x"}]',
    )
    cli("cancel", "c")

    def ids(*args: str) -> list[str]:
        return [record["id"] for record in cli.json("list", "--json", *args)]

    assert ids() == ["a", "b", "c"]
    assert ids("--queue", "q") == ["a"]
    assert ids("--tag", "t") == ["b"]
    assert ids("--state", "cancelled", "--state", "dead") == ["c"]
    assert ids("--newest", "--limit", "2") == ["c", "b"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_store_may_be_named_before_and_after_every_command(cli: Cli, place: int) -> None:
    words = ["dlq", "list"]
    words[place:place] = ["--store", "/dev/null"]
    assert "/dev/null" in cli.refused(*words, status=5)


@pytest.mark.slow
def test_an_unknown_id_is_one_line_and_exit_status_4(cli: Cli) -> None:
    for command in (["show"], ["logs"], ["wait"], ["cancel"], ["remove"], ["dlq", "retry"]):
        assert "nobody" in cli.refused(*command, "nobody", status=4)


@pytest.mark.slow
def test_jobs_fail_die_come_back_and_are_removed(cli: Cli) -> None:
    cli("enqueue", "echo out; echo err >&2; exit 7", "--id", "a", "--max-retries", "0")
    done = cli.drain(status=1)
    assert "1 dead" in done.stdout.splitlines()[-1]
    assert cli("logs", "a").stdout == "out\n"
    assert cli("logs", "a", "--stderr").stdout == "err\n"
    assert cli("wait", "a", status=7).stdout == "a dead\n"
    assert [record["id"] for record in cli.json("dlq", "list", "--json")] == ["a"]
    table = cli("dlq", "list").stdout
    assert "exit 7" in table
    assert cli("dlq", "retry", "--all").stdout == "a\n"
    assert cli.states() == {"a": "pending"}
    cli.drain(status=1)
    assert cli("logs", "a", "--attempt", "1").stdout == "out\n"
    assert "no attempt 3: it has had 2" in cli.refused("logs", "a", "--attempt", "3")
    assert "give one of them" in cli.refused("logs", "a", "--attempt", "1", "--follow")
    assert "1 dead job for good: say --yes" in cli.refused("dlq", "purge")
    assert cli("dlq", "purge", "--dry-run").stdout == "a\n"
    assert cli("remove", "--older-than", "0s", "--yes").stdout == ""  # dead ones wait for somebody's decision
    assert cli.states() == {"a": "dead"}
    assert cli("dlq", "purge", "--yes").stdout == "a\n"
    assert cli.states() == {}
    assert cli("remove", "--state", "dead", "--older-than", "7d", "--yes").stdout == ""


@pytest.mark.parametrize("command", [["remove", "--older-than", "7", "--yes"], ["dlq", "purge", "--older-than", "1.5"]])
def test_a_number_without_a_unit_deletes_nothing(cli: Cli, command: list[str]) -> None:
    assert "has no unit: say for example 7d" in cli.refused(*command)


@pytest.mark.parametrize(("answer", "left"), [("y", {}), ("n", {"a": "cancelled", "b": "cancelled"})])
def test_who_deletes_many_at_a_terminal_is_asked_and_shown_how_many(
    cli: Cli, answer: str, left: dict[str, str]
) -> None:
    for job_id in ("a", "b"):
        cli("enqueue", "true", "--id", job_id)
    cli("cancel", "a", "b")
    ours, theirs = os.openpty()
    try:
        process = cli.start("remove", "--state", "cancelled", stdin=theirs, stdout=subprocess.PIPE, stderr=theirs)
        asked = b""
        while b"?" not in asked:
            asked += os.read(ours, 1000)
        assert b"Remove 2 cancelled jobs, with their output, for good?" in asked
        os.write(ours, f"{answer}\n".encode())
        printed, _ = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert cli.states() == left
    assert printed == ("a\nb\n" if answer == "y" else "")
    assert process.returncode == (0 if answer == "y" else 1)


def test_output_is_printed_byte_for_byte(cli: Cli) -> None:
    cli("enqueue", "printf '\\377\\000x'", "--id", "a")
    cli.drain()
    logs = [sys.executable, "-m", "aqueue", "logs", "a"]
    assert subprocess.run(logs, cwd=cli.folder, env=cli.environ, capture_output=True).stdout == b"\xff\0x"


def test_an_export_comes_back_in_another_store(cli: Cli) -> None:
    cli("enqueue", '[{"id":"a","command":"echo hi"},{"id":"b","command":"exit 1","max_retries":0}]')
    cli.drain(status=1)
    exported = cli("export").stdout
    (cli.folder / "all.json").write_text(exported)
    other = Cli(cli.folder)
    other.environ["AQUEUE_STORE"] = str(cli.folder / "other")
    assert other("import", "all.json").stdout == "a\nb\n"
    assert msgspec.json.decode(other("export").stdout) == msgspec.json.decode(exported)
    assert "a" in other.refused("import", "all.json", status=3)


def test_status_counts_by_queue_and_state(cli: Cli) -> None:
    cli("enqueue", '[{"id":"a","command":"x","queue":"q"},{"id":"b","command":"x"}]')
    status = cli.json("status", "--json")
    assert status["counts"]["pending"] == 2
    assert status["queues"]["q"]["pending"] == 1
    assert status["pool"] is None
    text = cli("status").stdout
    assert "PENDING" in text
    assert "none runs" in text


@pytest.mark.slow
def test_settings_that_are_changed_at_the_same_moment_are_all_changed(cli: Cli) -> None:
    others = ("store", "orphans", "directory")
    numbers = {name: number for number, name in enumerate(SETTINGS, 10) if name not in others}
    file = cli.folder / "config.toml"
    file.write_text("# mine\n[aqueue]\norphans = 'kill' # why\n")
    numbers["backoff_jitter"] = 1
    commands = [cli.start("config", "set", name, str(number)) for name, number in numbers.items() for _ in range(2)]
    assert len(commands) >= 20
    for command in commands:
        _, said = command.communicate(timeout=60)
        assert command.returncode == 0, said
    table = tomllib.loads(file.read_text())["aqueue"]
    assert table == {"orphans": "kill", **numbers, "queue": str(numbers["queue"])}
    assert file.read_text().startswith("# mine\n[aqueue]\norphans = 'kill' # why\n")
    assert [path.name for path in cli.folder.glob("*config*")] == ["config.toml"]


def test_nothing_is_left_to_the_imagination_without_a_pool(cli: Cli) -> None:
    assert "none runs" in cli("worker", "status").stdout
    assert cli.json("worker", "status", "--json") is None
    assert "nothing to stop" in cli("worker", "stop").stderr
    assert "no jobs" in cli("list").stderr
    assert cli.json("list", "--json") == []
    assert cli.json("export") == []


def test_settings_are_shown_changed_and_found(cli: Cli) -> None:
    path = Path(cli("config", "path").stdout.strip())
    assert path == cli.folder / "home/.config/aqueue/config.toml"
    cli("config", "set", "max-retries", "7")
    cli("config", "set", "keep", "1h", "--config", str(path))
    assert cli("config", "get", "max_retries").stdout == "7\n"
    shown = cli.json("config", "show", "--json")
    assert shown["max_retries"] == {"value": 7, "origin": str(path)}
    assert shown["keep"]["value"] == 3600
    assert shown["store"]["origin"] == "AQUEUE_STORE"
    assert "max_retries" in cli("config", "show").stdout
    assert cli.json("enqueue", "x", "--json")[0]["max_retries"] == 7


def test_the_store_may_be_named_before_or_after_the_command(cli: Cli) -> None:
    cli("--store", "one", "enqueue", "x", "--id", "a")
    cli("enqueue", "x", "--id", "b", "--store", "one")
    assert [record["id"] for record in cli.json("list", "--json", "--store", str(cli.folder / "one"))] == ["a", "b"]


def test_a_wait_that_takes_too_long_is_exit_status_124(cli: Cli) -> None:
    cli("enqueue", "x", "--id", "a")
    assert cli.refused("wait", "a", "--timeout", "100ms", status=124)


def test_a_reader_that_leaves_is_no_error(cli: Cli) -> None:
    cli("enqueue", "-", stdin="true\n" * 3000)
    process = cli.start("export")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_an_error(cli: Cli) -> None:
    with open("/dev/full", "w") as full:
        process = cli.start("config", "show", stdout=full)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "No space left" in errors
