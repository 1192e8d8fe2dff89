"""A host is cut off from the database: it ends its own commands before another host may start them again."""

import functools
import time
from collections.abc import Callable

import pytest

from aqueue.jobs.job import State
from tests.postgres.hosts import LEASE, Hosts, eventually
from tests.postgres.proxy import Proxy

STUBBORN = "trap '' TERM; "


@pytest.mark.slow
def test_a_host_that_is_cut_off_ends_its_commands_before_another_starts_them_again(hosts: Hosts, proxy: Proxy) -> None:
    """Also commands that ignore SIGTERM."""
    lost, other = hosts.add(proxy.url), hosts.add()
    lost.start("--count", "2")
    jobs = [hosts.enqueue(trap + hosts.working(20), id=name) for name, trap in (("meek", ""), ("stubborn", STUBBORN))]
    eventually(lambda: len(hosts.lives()) == 2, "the start")
    other.start("--count", "2")
    began = time.monotonic()
    proxy.swallow()
    eventually(lambda: not lost.commands(), "the end of its commands", LEASE)
    assert time.monotonic() - began < LEASE
    eventually(lambda: all(len(attempts) == 2 for attempts in hosts.lives().values()), "the second attempts")
    hosts.assert_never_two_at_once()
    proxy.mend()
    eventually(lambda: lost.log().count("too late") == 2, "the refusal of its late results")
    assert lost.pool.poll() is None
    assert lost.log().count("trying again") <= 2
    for job in jobs:
        history = hosts.job(job.id).history
        assert [attempt.interrupted for attempt in history] == [True, False]
        assert "fell silent" in (history[0].error or "")
        hosts.cancel(job.id)
    after = hosts.enqueue_many("true", 4)
    hosts.ended(*(job.id for job in after))


@pytest.mark.slow
def test_a_cut_shorter_than_half_of_the_lease_is_not_noticed_by_commands(hosts: Hosts, proxy: Proxy) -> None:
    host = hosts.add(proxy.url)
    host.start()
    hosts.enqueue(hosts.working(4), id="j")
    eventually(lambda: "j" in hosts.lives(), "the start")
    proxy.refuse()
    time.sleep(1)
    proxy.mend()
    job = hosts.ended("j")
    assert (job.state, len(job.history)) == (State.COMPLETED, 1)


@pytest.mark.slow
def test_hosts_that_are_cut_off_by_turns_run_nothing_twice_at_once(
    hosts: Hosts, make_proxy: Callable[[], Proxy]
) -> None:
    proxies = [make_proxy(), make_proxy()]
    both = [hosts.add(proxy.url) for proxy in proxies]
    for host in both:
        host.start("--count", "2")
    jobs = hosts.enqueue_many(hosts.working(4), 4)
    for host, proxy in zip(both, proxies, strict=True):
        eventually(functools.partial(lambda each: len(each.commands()) >= 2, host), "its work")
        proxy.swallow()
        eventually(functools.partial(lambda each: not each.commands(), host), "the end of its commands", LEASE)
        proxy.mend()
    hosts.ended(*(job.id for job in jobs))
    hosts.assert_never_two_at_once()
    assert {job.state for job in hosts.jobs().values()} == {State.COMPLETED}
    assert max(map(len, hosts.lives().values())) > 1
