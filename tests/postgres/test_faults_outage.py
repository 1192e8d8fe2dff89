"""The database restarts, is away when a pool or a command starts, or is not what the URL says."""

import signal
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import psutil
import pytest

from aqueue.jobs.job import State
from tests.postgres.hosts import Hosts, eventually
from tests.postgres.outage import Outage
from tests.postgres.proxy import Proxy


@pytest.mark.slow
def test_a_database_that_restarts_again_and_again_loses_and_repeats_nothing(hosts: Hosts, outage: Outage) -> None:
    first, second = hosts.add(), hosts.add()
    for host in (first, second):
        host.start("--count", "3")
    jobs = []
    for number in (signal.SIGQUIT, signal.SIGINT, signal.SIGQUIT):
        jobs += hosts.enqueue_many('echo "$AQUEUE_JOB_ID" >>runs; sleep 0.2; echo out; exit 3', 15)
        eventually((hosts.folder / "runs").exists, "some work")
        outage.stop(number)
        outage.start()
    hosts.ended(*(job.id for job in jobs))
    assert sorted((hosts.folder / "runs").read_text().split()) == sorted(job.id for job in jobs)
    assert {(j.exit_code, j.stdout, len(j.history)) for j in hosts.jobs().values()} == {(3, "out\n", 1)}
    assert "too late" not in first.log() + second.log()


@pytest.mark.slow
def test_an_outage_longer_than_the_lease_interrupts_commands_and_pools_go_on_by_themselves(
    hosts: Hosts, outage: Outage
) -> None:
    host = hosts.add()
    host.start("--count", "2")
    hosts.enqueue(hosts.working(8), id="j")
    hosts.enqueue("true", id="later", delay=2)
    eventually(lambda: "j" in hosts.lives(), "the start")
    outage.stop()
    eventually(lambda: not host.commands(), "the end of the command")
    before = psutil.Process(host.pool.pid).cpu_times()
    time.sleep(3)  # the pool is at rest meanwhile
    after = psutil.Process(host.pool.pid).cpu_times()
    assert after.user + after.system - before.user - before.system < 0.3
    outage.start()
    assert hosts.ended("later").state is State.COMPLETED
    eventually(lambda: len(hosts.lives()["j"]) == 2, "the second attempt")
    hosts.assert_never_two_at_once()
    assert "could not be reached" in (hosts.job("j").history[0].error or "")
    assert len([line for line in host.log().splitlines() if line.startswith("database ")]) <= 2, (
        "once, not every second"
    )
    hosts.cancel("j")


@pytest.mark.slow
def test_a_wait_and_a_drain_survive_a_restart(hosts: Hosts, outage: Outage) -> None:
    host, other = hosts.add(), hosts.add()
    host.start()
    hosts.enqueue("touch started; until [ -e go ]; do sleep 0.02; done", id="j")
    eventually((hosts.folder / "started").exists, "the start")
    waiting = other.popen("wait", "j")
    eventually(lambda: hosts.sql("SELECT id FROM aqueue.job_active WHERE awaited"), "the wait")
    other.start("--drain")
    outage.restart(seconds=1)
    time.sleep(0.5)
    assert (waiting.poll(), other.pool.poll()) == (None, None), waiting.communicate()
    (hosts.folder / "go").touch()
    assert waiting.wait(20) == 0, waiting.communicate()
    assert other.pool.wait(20) == 0
    waiting.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("refuse", ("worker", "start")),
        ("refuse", ("list",)),
        ("refuse", ("wait", "j")),
        ("swallow", ("worker", "start")),
        ("swallow", ("enqueue", "true")),
    ],
)
def test_without_a_database_every_command_says_so_in_one_line(
    hosts: Hosts, proxy: Proxy, kind: str, command: tuple[str, ...]
) -> None:
    {"swallow": proxy.swallow, "refuse": proxy.refuse}[kind]()
    began = time.monotonic()
    status, output = hosts.add(proxy.url).run(*command)
    assert time.monotonic() - began < 12
    assert status == 5
    assert len(output.splitlines()) == 1, output
    assert output.startswith("aqueue: database postgresql://postgres@127.0.0.1"), output


def test_a_pool_refuses_a_question_soon_when_its_database_is_away(hosts: Hosts, proxy: Proxy) -> None:
    host = hosts.add(proxy.url)
    host.start()
    proxy.refuse()
    began = time.monotonic()
    status, output = host.run("enqueue", "true")
    assert status == 5
    assert len(output.splitlines()) == 1, output
    assert time.monotonic() - began < 12
    proxy.mend()
    eventually(lambda: host.run("enqueue", "true")[0] == 0, "the database")
    assert "error connecting" not in host.log()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda url: url.replace("/aqueue_test", "/no_such"), 'database "no_such'),
        (lambda url: url.replace("postgres@", "nobody@"), 'role "nobody" does not exist'),
        (lambda url: url.replace("127.0.0.1", "localhost").replace(":", ":", 1) + "?sslmode=require", "SSL"),
        (lambda url: "postgresql://postgres@no-such-host.invalid/q", "no-such-host.invalid"),
        (lambda url: "postgresql://127.0.0.1:1/q", "refused"),
        (lambda url: "postgresql://localhost:1/q", "refused"),
    ],
    ids=["name", "user", "ssl", "host", "port", "several addresses"],
)
def test_what_is_wrong_with_a_url_is_said_in_one_line(hosts: Hosts, proxy: Proxy, change: object, reason: str) -> None:
    assert callable(change)
    status, output = hosts.add(change(proxy.url)).run("enqueue", "true")
    assert status == 5
    assert len(output.splitlines()) == 1, output
    assert reason in output


def test_a_pool_moves_to_the_server_that_is_there(hosts: Hosts, make_proxy: Callable[[], Proxy]) -> None:
    """As with a standby that takes over: the URL names both, and one of them answers."""
    first, second = make_proxy(), make_proxy()
    host = hosts.add(f"postgresql://postgres@127.0.0.1:{first.port},127.0.0.1:{second.port}{urlsplit(hosts.url).path}")
    second.refuse()
    host.start()
    hosts.enqueue("touch started; until [ -e go ]; do sleep 0.02; done; echo done", id="j")
    eventually((hosts.folder / "started").exists, "the start")
    second.mend()
    first.refuse()
    assert hosts.ended(hosts.enqueue("true").id).state is State.COMPLETED
    (hosts.folder / "go").touch()
    assert hosts.ended("j").stdout == "done\n"
    assert len(hosts.job("j").history) == 1
    assert host.run("status")[0] == 0
