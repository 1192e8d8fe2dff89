"""Random faults of all kinds on three hosts: `pytest -m soak tests/postgres`.

SOAK_SEED=n repeats the choices of a run, SOAK_SECONDS=n makes it shorter or longer.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from aqueue.errors import AqueueError
from aqueue.jobs.job import State
from tests.postgres.hosts import Host, Hosts, eventually
from tests.postgres.outage import Outage
from tests.postgres.proxy import CLAIM, RETURN, SETTLE, Proxy


class Soak:
    """Three hosts, each with a network of its own, and what was acknowledged."""

    def __init__(self, hosts: Hosts, make_proxy: Callable[[], Proxy], outage: Outage, chance: random.Random) -> None:
        self.hosts = hosts
        self.outage = outage
        self.chance = chance
        self.acknowledged: dict[str, int] = {}
        self.cancelled: set[str] = set()
        self.networks: list[tuple[Host, Proxy]] = []
        for _ in range(3):
            proxy = make_proxy()
            host = hosts.add(proxy.url, AQUEUE_MAX_INTERRUPTIONS="1000")
            host.start("--count", "3")
            self.networks.append((host, proxy))

    def round(self) -> None:
        for _ in range(self.chance.randint(1, 6)):
            self.enqueue()
        host, proxy = self.chance.choice(self.networks)
        seconds = self.chance.choice([0.0, 0.3, 1.0, 3.0, 5.0, 8.0])
        fault = self.chance.choice(
            [
                self.cut,
                self.swallow,
                self.refuse,
                self.cut_at,
                self.kill,
                self.freeze,
                self.leave,
                self.stop,
                self.restart,
            ]
        )
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {host.folder.name} {fault.__name__} {seconds}\n")
        fault(host, proxy, seconds)
        if self.chance.random() < 0.3 and self.acknowledged:
            self.cancel(self.chance.choice(list(self.acknowledged)))

    def enqueue(self) -> None:
        job_id, status = f"s{len(self.acknowledged)}", self.chance.choice([0, 0, 0, 5])
        seconds = self.chance.choice([0.1, 0.3, 1.0, 4.0])
        stubborn = "trap '' TERM; " if self.chance.random() < 0.2 else ""
        command = stubborn + self.hosts.working(seconds, f"echo {job_id}; exit {status}")
        delay = self.chance.choice([None, None, 2.0])
        with suppress(AqueueError):  # it may be there all the same
            self.hosts.enqueue(command, id=job_id, queue=self.chance.choice(["a", "b"]), delay=delay)
        self.acknowledged[job_id] = status

    def cancel(self, job_id: str) -> None:
        self.cancelled.add(job_id)
        with suppress(AqueueError):
            self.hosts.cancel(job_id)

    def cut(self, host: Host, proxy: Proxy, seconds: float) -> None:
        proxy.cut()

    def cut_at(self, host: Host, proxy: Proxy, seconds: float) -> None:
        proxy.cut_at(self.chance.choice([CLAIM, SETTLE, RETURN]), forward=self.chance.random() < 0.5)

    def swallow(self, host: Host, proxy: Proxy, seconds: float) -> None:
        proxy.swallow()
        time.sleep(seconds)
        proxy.mend()

    def refuse(self, host: Host, proxy: Proxy, seconds: float) -> None:
        proxy.refuse()
        time.sleep(seconds)
        proxy.mend()

    def kill(self, host: Host, proxy: Proxy, seconds: float) -> None:
        host.pool.kill()
        host.pool.wait()
        time.sleep(seconds)
        host.start("--count", "3")

    def freeze(self, host: Host, proxy: Proxy, seconds: float) -> None:
        host.pool.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        host.pool.send_signal(signal.SIGCONT)

    def leave(self, host: Host, proxy: Proxy, seconds: float) -> None:
        host.run("worker", "stop", "--leave-running")
        host.pool.wait(30)
        time.sleep(seconds)
        host.start("--count", "3")

    def stop(self, host: Host, proxy: Proxy, seconds: float) -> None:
        host.pool.send_signal(signal.SIGTERM)
        time.sleep(seconds)
        host.pool.send_signal(signal.SIGTERM)
        host.pool.wait(30)
        host.start("--count", "3")

    def restart(self, host: Host, proxy: Proxy, seconds: float) -> None:
        self.outage.restart(seconds)

    def check(self) -> None:
        """Everything has ended truly, and nothing ran twice at once."""
        for host, _ in self.networks:
            assert host.pool.poll() is None, "a pool has ended by itself"
        eventually(lambda: all(job.state.final for job in self.hosts.jobs().values()), "the end of all jobs", 120)
        self.hosts.assert_never_two_at_once()
        for job_id, job in self.hosts.jobs().items():
            if job.state is State.CANCELLED:
                assert job_id in self.cancelled
                continue
            status = self.acknowledged[job_id]
            assert job.state is (State.DEAD if status else State.COMPLETED), job
            assert (job.exit_code, job.stdout, job.attempts) == (status, f"{job_id}\n", 1), job
            assert all(attempt.interrupted for attempt in job.history[:-1]), job


@pytest.mark.soak
@pytest.mark.timeout(float(os.environ.get("SOAK_SECONDS", 600)) + 300)
def test_random_faults_lose_nothing_and_run_nothing_twice_at_once(
    hosts: Hosts, make_proxy: Callable[[], Proxy], outage: Outage, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("SOAK_SEED", random.randrange(10**6)))
    end = time.monotonic() + float(os.environ.get("SOAK_SECONDS", 600))
    with capsys.disabled():
        sys.stdout.write(f"\nSOAK_SEED={seed}\n")
    soak = Soak(hosts, make_proxy, outage, random.Random(seed))
    while time.monotonic() < end:
        try:
            soak.round()
        except subprocess.TimeoutExpired:
            pytest.fail("a pool did not stop")
    soak.check()
