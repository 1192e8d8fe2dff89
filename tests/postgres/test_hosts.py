"""What is asked on one host, or where no pool is, reaches the host that is meant."""

import functools
import signal
import time
from collections.abc import Iterator

import pytest

from aqueue.errors import UnknownJob
from aqueue.jobs.job import State
from tests.postgres.hosts import Host, Hosts, eventually


@pytest.fixture
def two(hosts: Hosts) -> Iterator[tuple[Host, Host]]:
    """A host that runs job `j`, and another one whose pool serves another queue."""
    one, other = hosts.add(), hosts.add()
    one.start("--queue", "default")
    other.start("--queue", "elsewhere")
    hosts.enqueue(hosts.working(20), id="j")
    eventually(lambda: "j" in hosts.lives(), "the start")
    yield one, other
    for host in (one, other):
        assert host.run("worker", "stop", "--now")[0] == 0
        assert host.pool.wait(20) == 0
        assert not host.processes()


def test_a_job_is_cancelled_by_another_host_or_without_a_pool(hosts: Hosts, two: tuple[Host, Host]) -> None:
    one, other = two
    began = time.monotonic()
    assert other.run("cancel", "j")[0] == 0
    assert not one.commands()
    hosts.enqueue(hosts.working(20), id="k")
    eventually(lambda: "k" in hosts.lives(), "the start")
    assert hosts.cancel("k").state is State.CANCELLED
    assert not one.commands()
    assert time.monotonic() - began < 5, "a notification announced it"


def test_a_cancel_that_meets_a_failure_is_not_forgotten(hosts: Hosts, two: tuple[Host, Host]) -> None:
    """The command fails in the moment of the cancel, and would be tried again."""
    hosts.cancel("j")
    for number in range(10):
        job_id = f"f{number}"
        hosts.enqueue("sleep 0.05; exit 1", id=job_id, max_retries=1000)
        hosts.cancel(job_id)
        assert hosts.job(job_id).state is State.CANCELLED
        hosts.retry(job_id)
        eventually(functools.partial(lambda job_id: hosts.job(job_id).attempts > 0, job_id), "a run after the retry")
        hosts.cancel(job_id)


def test_a_wait_ends_with_the_job_of_another_host(hosts: Hosts, two: tuple[Host, Host]) -> None:
    _, other = two
    waiting = [other.popen("wait", "j"), hosts.add().popen("wait", "j")]
    hosts.cancel("j")
    began = time.monotonic()
    assert [process.wait(20) for process in waiting] == [128 + signal.SIGTERM] * 2
    assert time.monotonic() - began < 5
    for process in waiting:
        process.communicate()


@pytest.mark.slow
def test_a_drain_waits_for_what_other_hosts_run(hosts: Hosts, two: tuple[Host, Host]) -> None:
    draining = hosts.add()
    draining.start("--drain")
    time.sleep(1.5)  # it has looked more than once
    assert draining.pool.poll() is None
    hosts.cancel("j")
    assert draining.pool.wait(20) == 0


def test_a_dead_job_is_retried_and_removed_from_anywhere(hosts: Hosts, two: tuple[Host, Host]) -> None:
    _, other = two
    hosts.enqueue("test -e mended", id="d")
    assert hosts.ended("d").state is State.DEAD
    (hosts.folder / "mended").touch()
    assert other.run("dlq", "retry", "d")[0] == 0
    job = hosts.ended("d")
    assert (job.state, len(job.history)) == (State.COMPLETED, 2)
    assert other.run("remove", "d")[0] == 0
    with pytest.raises(UnknownJob, match="it was removed; ids are never used again"):
        hosts.ended("d")
    assert other.run("enqueue", "--id", "d", "true")[0] == 3
    assert other.run("remove", "j")[0] == 2, "it runs"


@pytest.mark.slow
def test_a_cancel_outlives_the_pool_that_was_to_obey(hosts: Hosts) -> None:
    host = hosts.add()
    host.start()
    hosts.enqueue("trap '' TERM; " + hosts.working(20), id="j")
    eventually(lambda: "j" in hosts.lives(), "the start")
    host.pool.send_signal(signal.SIGSTOP)
    cancelling = hosts.add().popen("cancel", "j")
    eventually(lambda: hosts.sql("SELECT seq FROM aqueue.job WHERE cancel"), "the wish")
    cancelling.kill()
    cancelling.communicate()
    host.pool.kill()
    hosts.add().start()
    assert hosts.ended("j").state is State.CANCELLED
    assert not host.processes()
