"""The same commands on a database: several pools, questions from anywhere, and what only a database needs."""

import socket
from pathlib import Path

import psycopg
import pytest

import aqueue
from aqueue.settings.config import Config
from aqueue.store.postgres import schema
from tests.cli.conftest import Cli
from tests.conftest import StartPool


@pytest.fixture
def shared(cli: Cli, database: str) -> Cli:
    """A command line whose queue is in a database."""
    cli.environ |= {"AQUEUE_STORE": database, "AQUEUE_LEASE": "8s"}
    return cli


@pytest.fixture
def here(shared: Cli) -> dict[str, str]:
    """The environment of a pool on the host of the command line."""
    return {name: shared.environ[name] for name in ("AQUEUE_STORE", "AQUEUE_LEASE")}


@pytest.fixture
def elsewhere(here: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a pool that keeps its files where the command line does not look."""
    return {**here, "AQUEUE_DIRECTORY": str(tmp_path / "elsewhere")}


def test_tables_are_made_by_a_command_or_a_pool_and_by_nothing_else(shared: Cli, start_pool: StartPool) -> None:
    assert "holds no queue yet" in shared.refused("enqueue", "true", status=5)
    assert "version 2 (new)" in shared("store", "init").stderr
    assert "as it was" in shared("store", "init").stderr
    assert shared("enqueue", "true", "--id", "a").stdout == "a\n"


def test_a_newer_database_is_refused(shared: Cli) -> None:
    shared("store", "init")
    with psycopg.connect(shared.environ["AQUEUE_STORE"], autocommit=True) as connection:
        connection.execute("UPDATE aqueue.version SET version = 99")
    for command in (("enqueue", "true"), ("store", "init"), ("worker", "start", "--drain")):
        assert "is of version 99" in shared.refused(*command, status=5)


@pytest.mark.slow
async def test_an_older_database_is_brought_to_this_version_with_its_jobs(
    shared: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = shared.environ["AQUEUE_STORE"]
    monkeypatch.setattr(schema, "VERSION", 1)
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await schema.prepare(connection)
        await aqueue.enqueue_in(connection, "echo hi", config=Config(url), id="a", queue="mails")
    assert "is of version 1; this brings it to 2: aqueue store init" in shared.refused("enqueue", "true", status=5)
    assert "version 2 (before: version 1)" in shared("store", "init").stderr
    shared("enqueue", "true", "--id", "b")
    assert shared.states() == {"a": "pending", "b": "pending"}
    shared.drain()
    assert shared.states() == {"a": "completed", "b": "completed"}


def test_a_directory_has_no_tables_and_no_pools_of_other_hosts(cli: Cli) -> None:
    assert "is a directory" in cli.refused("store", "init")
    assert "a directory has one pool" in cli.refused("worker", "stop", "--all")


@pytest.mark.slow
def test_what_is_queued_without_a_pool_runs_when_one_comes(shared: Cli) -> None:
    shared("store", "init")
    shared("enqueue", "echo hi", "--id", "a")
    shared("enqueue", "exit 3", "--id", "b", "--max-retries", "0")
    shared.drain(status=1)
    assert shared.states() == {"a": "completed", "b": "dead"}
    assert shared("logs", "a").stdout == "hi\n"
    assert shared("dlq", "retry", "b").stdout == "b\n"
    assert shared("remove", "a").stdout == "a\n"
    assert "removed" in shared.refused("show", "a", status=4)
    assert shared.states() == {"b": "pending"}


@pytest.mark.slow
def test_a_job_of_another_host_is_waited_for_cancelled_and_shown(
    shared: Cli, elsewhere: dict[str, str], start_pool: StartPool
) -> None:
    pool = start_pool("--count", "2", **elsewhere)
    assert shared("enqueue", "--wait", "exit 5", "--max-retries", "0", "--id", "a", status=5).stdout == "a\n"
    shared("enqueue", "sleep 60", "--id", "b")
    while shared.states()["b"] != "processing":
        pass
    assert "has not ended" in shared.refused("wait", "b", "--timeout", "0.5s", status=124)
    [status] = shared.json("worker", "status", "--json")
    assert (status["host"], status["pid"]) == (socket.gethostname(), pool.pid)
    assert [slot["job"]["id"] for slot in status["busy"]] == ["b"]
    assert f"{socket.gethostname()}/{pool.pid}" in shared("status").stdout
    assert shared("cancel", "b").stdout == "b\n"
    assert shared.states() == {"a": "dead", "b": "cancelled"}


@pytest.mark.slow
def test_pools_of_any_host_are_stopped_by_name_or_all(
    shared: Cli, here: dict[str, str], elsewhere: dict[str, str], start_pool: StartPool
) -> None:
    first, second = start_pool(**elsewhere), start_pool(**here)
    third = start_pool(**{**elsewhere, "AQUEUE_DIRECTORY": elsewhere["AQUEUE_DIRECTORY"] + "2"})
    host = socket.gethostname()
    assert f"{host}/{first.pid}" in shared.refused("worker", "stop", "nobody/1")
    assert shared("worker", "stop", f"{host}/{first.pid}").stderr == f"stopped: {host}/{first.pid}\n"
    assert first.wait(30) == 0
    assert second.poll() is None
    stopped = shared("worker", "stop", "--all", "--now").stderr
    assert all(str(pool.pid) in stopped for pool in (second, third))
    assert second.wait(30) == third.wait(30) == 0
    assert "none runs" in shared("worker", "status").stdout
    assert "nothing to stop" in shared("worker", "stop", "--all").stderr


@pytest.mark.slow
def test_what_another_host_printed_is_told_to_be_there(
    shared: Cli, elsewhere: dict[str, str], start_pool: StartPool
) -> None:
    start_pool(**elsewhere)
    shared("enqueue", "--wait", "seq 100000", "--id", "long")
    shared("enqueue", "--wait", "echo short", "--id", "short")
    logs = shared("logs", "long")
    assert logs.stdout.endswith("\n99999\n100000\n")
    assert len(logs.stdout) == 65536
    assert f"the whole output is on {socket.gethostname()}" in logs.stderr
    assert (shared("logs", "short").stdout, shared("logs", "short").stderr) == ("short\n", "")


@pytest.mark.slow
def test_a_password_is_never_shown(cli: Cli) -> None:
    cli.environ["AQUEUE_STORE"] = "postgresql://me:sesame@127.0.0.1:1/db?password=sesame&sslpassword=sesame"
    for command in (("status",), ("enqueue", "true"), ("worker", "start"), ("store", "init"), ("doctor",)):
        done = cli(*command, status=5)
        assert "sesame" not in done.stdout + done.stderr
        assert "database postgresql://me@127.0.0.1:1/db" in done.stderr
        assert done.stderr.count("\n") == 1
    assert "sesame" not in cli("config", "show").stdout + cli("config", "show", "--json").stdout


@pytest.mark.parametrize(
    "store",
    [
        "postgresql://me:ses%ame@127.0.0.1:1/db",
        "postgresql://me:ses ame@127.0.0.1:1/db",
        "postgresql://me:ses@ame@127.0.0.1:1/db",
        "postgresql:/me:sesame@127.0.0.1:1/db",
        "host=127.0.0.1 user=me password=sesame",
        "mysql://me:sesame@127.0.0.1:1/db",
    ],
    ids=["percent", "blank", "at", "slash", "keywords", "other"],
)
def test_a_database_that_is_named_wrongly_is_refused_without_its_password(cli: Cli, store: str) -> None:
    cli.environ["AQUEUE_STORE"] = store
    refused = cli.refused("status")
    assert "AQUEUE_STORE: store must be a directory" in refused
    assert "ame" not in refused.replace("name", ""), refused


def test_bytes_that_are_no_text_are_told_to_be_elsewhere(
    shared: Cli, elsewhere: dict[str, str], start_pool: StartPool
) -> None:
    start_pool(**elsewhere)
    shared("enqueue", "--wait", "printf 'a\\377b'", "--id", "j")
    logs = shared("logs", "j")
    assert logs.stdout == "a\N{REPLACEMENT CHARACTER}b"
    assert f"byte for byte is on {socket.gethostname()}" in logs.stderr


@pytest.mark.slow
def test_doctor_finds_what_nobody_has_and_what_cannot_be_read(shared: Cli) -> None:
    shared("store", "init")
    shared("enqueue", "true", "--id", "a")
    shared("enqueue", "true", "--id", "b")
    assert "is whole: 2 jobs" in shared("doctor").stderr
    with psycopg.connect(shared.environ["AQUEUE_STORE"], autocommit=True) as connection:
        connection.execute(
            "UPDATE aqueue.job_active SET state = 'processing', ready = false, pool = 'x', host = 'h', worker = 1,"
            " token = 'x.1.1-1', started = now(), begun = 1 WHERE id = 'a'"
        )
        connection.execute("UPDATE aqueue.job_active SET record = '{}' WHERE id = 'b'")
    found = shared("doctor", status=1)
    assert found.stdout.splitlines()[0] == "1 jobs are processing in no pool"
    assert "(b): its record cannot be read" in found.stdout
    assert "1 of its jobs are queued again" in shared("doctor", "--repair").stderr
    assert "processing in no pool" not in shared("doctor", status=1).stdout
