"""The connection is cut in the middle of a claim or a settle, or dies without a word."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from aqueue.jobs.job import State
from tests.postgres.hosts import Hosts, eventually
from tests.postgres.proxy import Proxy

CLAIM = b"pool AS MATERIALIZED"
SETTLE = b"new (settled_token"


@pytest.mark.slow
@pytest.mark.parametrize("forward", [True, False], ids=["after it was done", "before it was done"])
@pytest.mark.parametrize("pattern", [CLAIM, SETTLE], ids=["claim", "settle"])
def test_a_connection_cut_in_the_middle_costs_no_job_and_no_second_run(
    hosts: Hosts, proxy: Proxy, pattern: bytes, forward: bool
) -> None:
    host = hosts.add(proxy.url)
    host.run("store", "init")
    jobs = hosts.enqueue_many("echo ran >>runs; echo out", 5)
    proxy.cut_at(pattern, forward=forward)  # a statement is named once in a connection, when it is prepared
    host.start("--count", "2")
    hosts.ended(*(job.id for job in jobs))
    assert proxy.has_cut.is_set()
    assert (hosts.folder / "runs").read_text() == "ran\n" * 5
    assert {(job.state, job.stdout, len(job.history)) for job in hosts.jobs().values()} == {
        (State.COMPLETED, "out\n", 1)
    }
    assert "too late" not in host.log()


@pytest.mark.slow
def test_every_connection_is_made_again(hosts: Hosts, proxy: Proxy) -> None:
    host = hosts.add(proxy.url)
    host.start("--count", "2")
    for number in range(3):
        proxy.cut()
        job = hosts.ended(hosts.enqueue("true", id=f"j{number}").id)
        assert job.state is State.COMPLETED
    assert host.run("list", "--json")[0] == 0  # the pool answers: with connections that were cut while idle


@pytest.mark.slow
def test_a_network_that_swallows_everything_for_a_while_costs_no_job(hosts: Hosts, proxy: Proxy) -> None:
    host = hosts.add(proxy.url)
    host.start("--count", "2")
    hosts.ended(hosts.enqueue("true").id)
    proxy.swallow()
    job = hosts.enqueue("echo ran >>runs")
    eventually(lambda: "trying again" in host.log(), "the complaint")
    proxy.mend()
    assert hosts.ended(job.id).state is State.COMPLETED
    eventually(lambda: "the database is there again" in host.log(), "the good news")
    assert (hosts.folder / "runs").read_text() == "ran\n"
    assert host.log().count("trying again") <= 2  # once for the silence, once for the connections that end with it


@pytest.fixture
def fault(proxy: Proxy) -> dict[str, Callable[[], None]]:
    return {"swallow": proxy.swallow, "refuse": proxy.refuse}


@pytest.mark.parametrize("kind", ["swallow", "refuse"])
def test_results_that_came_meanwhile_are_stored_when_the_database_is_back(
    hosts: Hosts, proxy: Proxy, fault: dict[str, Any], kind: str
) -> None:
    host = hosts.add(proxy.url, AQUEUE_WORKERS="2")
    host.start()
    jobs = hosts.enqueue_many("touch started; until [ -e go ]; do sleep 0.02; done; echo out; exit 3", 2)
    eventually((hosts.folder / "started").exists, "the start")
    fault[kind]()
    (hosts.folder / "go").touch()
    eventually(lambda: not host.commands(), "their end")
    proxy.mend()
    hosts.ended(*(job.id for job in jobs))
    assert {(j.exit_code, j.stdout, len(j.history)) for j in hosts.jobs().values()} == {(3, "out\n", 1)}


@pytest.mark.slow
def test_a_pool_that_is_cut_off_again_and_again_is_back_soon_each_time(hosts: Hosts, proxy: Proxy) -> None:
    host = hosts.add(proxy.url)
    host.start("--count", "2")
    began = time.monotonic()
    for _ in range(8):
        proxy.cut()
        hosts.ended(hosts.enqueue("sleep 0.2").id)
    assert time.monotonic() - began < 9
