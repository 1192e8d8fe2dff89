"""A pool that is killed or frozen: its watchdog ends the commands before another pool may start them."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from aqueue.attempts import watchdog
from aqueue.jobs.job import State
from tests.postgres.hosts import LEASE, Host, Hosts, eventually

STUBBORN = "trap '' TERM; "


def started(hosts: Hosts, host: Host, command: str, **fields: object) -> None:
    """Queue job `j` for the host, and return when its command has left its first sign of life."""
    hosts.enqueue(command, id="j", **fields)
    eventually(lambda: "j" in hosts.lives(), "the start")


@pytest.mark.slow
def test_commands_of_a_killed_pool_end_before_another_pool_starts_them_again(hosts: Hosts) -> None:
    first, second = hosts.add(), hosts.add()
    first.start()
    started(hosts, first, STUBBORN + hosts.working(20, then="exit 7") + " & exec sleep 30", timeout=60)
    second.start()
    first.pool.kill()
    eventually(lambda: len(hosts.lives()["j"]) == 2, "the second attempt")
    assert not first.processes(), "neither commands nor the watchdog are left"
    hosts.assert_never_two_at_once()
    hosts.cancel("j")
    lost, again = hosts.job("j").history
    assert lost.interrupted
    assert "fell silent" in (lost.error or "")
    assert again.host is not None
    assert "1 of its jobs are queued again" in second.log()


@pytest.mark.slow
def test_a_frozen_pool_loses_its_jobs_and_works_on_when_it_wakes(hosts: Hosts) -> None:
    first, second = hosts.add(), hosts.add()
    first.start("--count", "1")
    started(hosts, first, STUBBORN + hosts.working(12))
    second.start("--count", "1")
    first.pool.send_signal(signal.SIGSTOP)
    eventually(lambda: len(hosts.lives()["j"]) == 2, "the second attempt")
    first.pool.send_signal(signal.SIGCONT)
    eventually(lambda: "too late" in first.log(), "the refusal")
    assert "it starts over" in first.log()
    hosts.assert_never_two_at_once()
    one, other = hosts.enqueue_many("sleep 0.3; echo $AQUEUE_WORKER", 2)
    hosts.ended(one.id, other.id)
    assert f"{one.id} " in first.log() + second.log()
    eventually(lambda: len(hosts.sql("SELECT run FROM aqueue.pool")) == 2, "its row")
    assert first.pool.poll() is None
    hosts.cancel("j")
    assert [attempt.interrupted for attempt in hosts.job("j").history] == [True, False]


@pytest.mark.slow
def test_a_host_that_slept_past_its_lease_claims_nothing_before_its_old_commands_have_ended(hosts: Hosts) -> None:
    """Nobody can end the commands of a machine that is suspended; when it wakes, it does so itself."""
    first, second = hosts.add(), hosts.add()
    first.environ["AQUEUE_KILL_AFTER"] = "4"
    first.start("--count", "2")
    second.start("--queue", "other")
    started(hosts, first, STUBBORN + hosts.working(60))
    asleep = first.processes()
    for process in asleep:
        process.suspend()
    eventually(lambda: hosts.job("j").state is State.PENDING, "the rescue")
    watchdogs = first.watchdogs()
    for process in asleep:
        if process not in watchdogs:  # which would end them sooner
            process.resume()
    eventually(lambda: [end - start > 1 for start, end in hosts.lives()["j"]] == [True, True], "the second attempt")
    hosts.assert_never_two_at_once()
    assert first.pool.poll() is None
    hosts.cancel("j")


@pytest.mark.slow
def test_what_a_watchdog_has_ended_is_no_failure_of_its_own(hosts: Hosts) -> None:
    host = hosts.add()
    host.start()
    started(hosts, host, hosts.working(20))
    host.pool.kill()
    eventually(lambda: not host.processes(), "the end of command and watchdog")
    host.start()  # just within the lease
    eventually(lambda: len(hosts.lives()["j"]) == 2, "the second attempt")
    job = hosts.job("j")
    assert (job.state, job.attempts, job.history[0].interrupted) == (State.PROCESSING, 0, True)
    hosts.cancel("j")


@pytest.mark.slow
def test_a_watchdog_that_is_killed_is_started_again_and_does_its_work(hosts: Hosts) -> None:
    host = hosts.add()
    host.start()
    started(hosts, host, hosts.working(20))
    (watchdog_process,) = eventually(host.watchdogs, "the watchdog")
    watchdog_process.kill()
    eventually(lambda: host.watchdogs() and host.watchdogs() != [watchdog_process], "another watchdog")
    time.sleep(0.5)  # it takes that long to start, and nothing says when it has
    host.pool.kill()
    eventually(lambda: not host.processes(), "the end of command and watchdog", LEASE)


@pytest.mark.slow
def test_a_pool_that_could_not_join_does_not_end_the_watchdog_of_the_last_one(hosts: Hosts) -> None:
    host = hosts.add()
    host.start()
    started(hosts, host, hosts.working(20))
    host.pool.kill()
    host.environ["AQUEUE_STORE"] = hosts.url + "&options=-cbroken"
    deadline = time.monotonic() + LEASE
    while host.commands() and time.monotonic() < deadline:
        assert host.start(wait=False).wait(20) == 5
    assert not host.commands()


def test_the_watchdog_goes_with_its_pool(hosts: Hosts) -> None:
    host = hosts.add()
    host.start()
    hosts.ended(hosts.enqueue("true").id)
    (watchdog_process,) = eventually(host.watchdogs, "the watchdog")
    host.pool.terminate()
    assert host.pool.wait(20) == 0
    assert not psutil.pid_exists(watchdog_process.pid)
    assert not host.processes()


def test_a_watchdog_whose_pool_is_gone_notices_that_the_machine_has_slept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = 0.0
    monkeypatch.setattr("aqueue.system.clock.monotonic", lambda: time.monotonic() + slept)
    reading, writing = os.pipe()
    os.write(writing, f"{time.monotonic() + 1000} 1\n".encode())
    watching = threading.Thread(target=watchdog.watch, args=(tmp_path, reading), daemon=True)
    watching.start()
    eventually((tmp_path / "guard").exists, "its file")
    os.close(writing)
    watching.join(0.5)  # by then it sleeps, of which nothing tells
    slept = 1000
    watching.join(10)
    assert not watching.is_alive()
    os.close(reading)
