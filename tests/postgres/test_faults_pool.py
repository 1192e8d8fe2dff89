"""A pool is killed, stopped or started again: what runs on its host is adopted, what ended meanwhile is stored."""

import signal

import pytest

from aqueue.jobs.job import State
from tests.postgres.hosts import Hosts, eventually
from tests.postgres.proxy import Proxy

CLAIM = b"pool AS MATERIALIZED"
SETTLE = b"given (held_by"
WAITING = "touch started; until [ -e go ]; do sleep 0.02; done; echo out; exit 3"


def begin(hosts: Hosts) -> None:
    """Queue job `j`, and return when it has begun to wait for the file `go`."""
    hosts.enqueue(WAITING, id="j")
    eventually((hosts.folder / "started").exists, "the start")


def test_a_pool_that_comes_within_the_lease_adopts_what_a_killed_one_has_left(hosts: Hosts) -> None:
    host = hosts.add()
    host.start()
    begin(hosts)
    host.pool.kill()
    host.start()
    assert "adopted 1" in host.log()
    (hosts.folder / "go").touch()
    job = hosts.ended("j")
    assert (job.exit_code, job.stdout, len(job.history)) == (3, "out\n", 1)


def test_a_result_that_came_while_no_pool_was_there_is_stored_by_the_next(hosts: Hosts) -> None:
    host = hosts.add()
    host.start()
    begin(hosts)
    host.pool.kill()
    (hosts.folder / "go").touch()
    eventually(lambda: not host.commands(), "its end")
    host.start()
    job = hosts.ended("j")
    assert (job.exit_code, job.stdout, len(job.history)) == (3, "out\n", 1)


@pytest.mark.slow
def test_commands_left_running_are_adopted(hosts: Hosts) -> None:
    host = hosts.add()
    host.start()
    begin(hosts)
    assert host.run("worker", "stop", "--leave-running")[0] == 0
    assert host.pool.wait(20) == 0
    host.start()
    assert "adopted 1" in host.log()
    (hosts.folder / "go").touch()
    assert hosts.ended("j").exit_code == 3
    eventually(lambda: len(host.watchdogs()) == 1, "the end of the earlier watchdog")


@pytest.mark.slow
@pytest.mark.parametrize("forward", [True, False], ids=["after it was done", "before it was done"])
@pytest.mark.parametrize("pattern", [CLAIM, SETTLE], ids=["claim", "settle"])
def test_a_pool_killed_in_the_middle_loses_and_repeats_nothing(
    hosts: Hosts, proxy: Proxy, pattern: bytes, forward: bool
) -> None:
    host = hosts.add(proxy.url)
    host.start()
    hosts.enqueue("echo ran >>runs; echo out; exit 3", id="j", max_retries=0)
    proxy.cut_at(pattern, forward=forward)
    if pattern == SETTLE:
        proxy.has_cut.wait(20)
    proxy.refuse()
    host.pool.kill()
    host.pool.wait()
    proxy.mend()
    host.start()
    job = hosts.ended("j")
    assert (job.exit_code, job.stdout, job.attempts) == (3, "out\n", 1)
    assert (hosts.folder / "runs").read_text() == "ran\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["swallow", "refuse"])
def test_a_pool_that_stops_without_its_database_says_what_is_left_and_the_next_one_stores_it(
    hosts: Hosts, proxy: Proxy, kind: str
) -> None:
    host = hosts.add(proxy.url)
    host.start("--count", "2", "--grace", "0s")
    begin(hosts)
    hosts.enqueue("touch other; exec sleep 30", id="k", max_retries=0)
    eventually((hosts.folder / "other").exists, "the start")
    {"swallow": proxy.swallow, "refuse": proxy.refuse}[kind]()
    (hosts.folder / "go").touch()
    eventually(lambda: len(host.commands()) <= 2, "the end of one")
    host.pool.terminate()
    assert host.pool.wait(20) == 5
    assert "2 results could not be stored" in host.log()
    assert not host.processes()
    proxy.mend()
    host.start()
    job = hosts.ended("j")
    assert (job.exit_code, job.stdout, len(job.history)) == (3, "out\n", 1)
    job = eventually(lambda: (job := hosts.job("k")).history and job.state is State.PROCESSING and job, "another try")
    assert (job.attempts, job.history[0].interrupted) == (0, True)


def test_a_pool_frozen_for_less_than_its_lease_keeps_its_jobs(hosts: Hosts) -> None:
    host, other = hosts.add(), hosts.add()
    host.start()
    begin(hosts)
    other.start()
    host.pool.send_signal(signal.SIGSTOP)
    (hosts.folder / "go").touch()
    eventually(lambda: not host.commands(), "its end")
    host.pool.send_signal(signal.SIGCONT)
    job = hosts.ended("j")
    assert (job.exit_code, job.stdout, len(job.history)) == (3, "out\n", 1)
