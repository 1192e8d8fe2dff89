"""The blocking client: the same answers with a pool and without one."""

import socket
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from aqueue.control.client import Client
from aqueue.control.registry import registered_pool
from aqueue.control.requests import Cancel, Enqueue, Find, Get, Remove, Request, Retry, Wait, Watch
from aqueue.control.stopping import stop_pool
from aqueue.control.waiting import wait_for_jobs
from aqueue.errors import DamagedStore, DuplicateJob, InvalidRequest, PoolGone, PoolRunning, UnknownJob, WaitTimeout
from aqueue.jobs.job import Job
from aqueue.jobs.spec import NewJob
from aqueue.settings.config import Config
from tests.conftest import PATIENCE, Pipe, StartPool


def spec(command: str = "true", **fields: Any) -> NewJob:
    return NewJob(command=command, max_retries=0, **fields)


def jobs(client: Client, request: Request | Iterable[Request]) -> list[Job]:
    return list(client.jobs(request))


@pytest.fixture(params=["without a pool", "with a pool"])
def client(request: pytest.FixtureRequest, config: Config, start_pool: StartPool) -> Client:
    if request.param == "with a pool":
        start_pool("--queue", "none")
    return Client(config)


def test_the_same_is_answered_with_a_pool_and_without(client: Client) -> None:
    with client:
        assert [job.id for job in jobs(client, Enqueue([spec(id="a"), spec(id="b")]))] == ["a", "b"]
        assert [job.id for job in jobs(client, Get(["b", "a"]))] == ["b", "a"]
        assert [job.state for job in jobs(client, Cancel(["a"]))] == ["cancelled"]
        assert [job.state for job in jobs(client, Retry(["a"]))] == ["pending"]
        assert list(client.ids(Remove(["a"]))) == ["a"]
        assert [job.id for job in jobs(client, Find())] == ["b"]
        overview = client.overview()
        assert sum(sum(states.values()) for states in overview.counts.values()) == 1


def test_the_same_is_refused_with_a_pool_and_without(client: Client) -> None:
    with client:
        with pytest.raises(UnknownJob, match="'nobody'"):
            jobs(client, Get(["nobody"]))
        jobs(client, Enqueue([spec(id="a")]))
        with pytest.raises(DuplicateJob, match="id a exists already"):
            jobs(client, Enqueue([spec(id="b"), spec(id="a")]))
        with pytest.raises(InvalidRequest, match="only a dead or cancelled job"):
            jobs(client, Retry(["a"]))
        assert [job.id for job in jobs(client, Find())] == ["a"]


def test_an_answer_that_is_not_read_to_its_end_is_not_taken_for_the_next(client: Client) -> None:
    with client:
        jobs(client, Enqueue([spec(id=f"j{number}") for number in range(2500)]))
        assert next(client.jobs(Find())).id == "j0"
        assert [job.id for job in jobs(client, Get(["j7"]))] == ["j7"]
        with pytest.raises(UnknownJob):
            jobs(client, Get(["nobody"]))
        assert [job.id for job in jobs(client, Get(["j8"]))] == ["j8"]


def test_a_long_batch_comes_in_parts_and_is_one_change(client: Client) -> None:
    parts = [Enqueue([spec(id=f"j{part}-{n}") for n in range(500)], more=part < 4) for part in range(5)]
    with client:
        assert len(jobs(client, parts)) == 2500
        assert len(jobs(client, Find())) == 2500
        bad = [Enqueue([spec(id="new")], more=True), Enqueue([spec(id="j0-0")])]
        with pytest.raises(DuplicateJob):
            jobs(client, bad)
        assert len(jobs(client, Find())) == 2500


def test_a_pool_is_known_while_it_runs(config: Config, start_pool: StartPool, store: Path) -> None:
    with Client(config) as client:
        assert client.pool is None
        assert stop_pool(client) is None
        process = start_pool("--count", "3")
        assert client.pool is not None
        assert (client.pool.pid, client.pool.workers, client.pool.store) == (process.pid, 3, str(store))
        assert registered_pool(store) == client.pool


def test_stopping_returns_when_the_pool_is_gone(config: Config, start_pool: StartPool, store: Path) -> None:
    process = start_pool()
    with Client(config) as client:
        stopped = stop_pool(client, timeout=PATIENCE)
        assert stopped is not None
        assert stopped.pid == process.pid
        assert registered_pool(store) is None
        assert jobs(client, Enqueue([spec(id="a")]))[0].id == "a"
    assert process.wait(PATIENCE) == 0


def test_a_stop_that_takes_too_long_says_so_and_goes_on(config: Config, start_pool: StartPool, go: Pipe) -> None:
    process = start_pool(AQUEUE_GRACE="1h")
    with Client(config) as client:
        jobs(client, Enqueue([spec(f"read x < {go.path}", id="a")]))
        wait_for_state(client, "a", "processing")
        with pytest.raises(WaitTimeout, match=f"pid {process.pid}"):
            stop_pool(client, timeout=0.1)
    go.write()
    assert process.wait(PATIENCE) == 0


def wait_for_state(client: Client, job_id: str, state: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while jobs(client, Get([job_id]))[0].state != state:
        assert time.monotonic() < deadline


def test_jobs_are_waited_for_as_they_end(config: Config, start_pool: StartPool, go: Pipe) -> None:
    start_pool("--count", "2")
    with Client(config) as client:
        jobs(client, Enqueue([spec(f"read x < {go.path}", id="slow"), spec("exit 3", id="fast")]))
        ended = wait_for_jobs(client, ["slow", "fast"], timeout=PATIENCE)
        first = next(ended)
        assert (first.id, first.exit_code) == ("fast", 3)
        go.write()
        assert [job.id for job in ended] == ["slow"]


def test_a_wait_in_vain_ends_in_time(client: Client) -> None:
    with client:
        jobs(client, Enqueue([spec(id="a")]))
        with pytest.raises(WaitTimeout, match=r"a has not ended after 0.1 s"):
            list(wait_for_jobs(client, ["a"], timeout=0.1))
        with pytest.raises(UnknownJob):
            list(wait_for_jobs(client, ["nobody"], timeout=PATIENCE))


def test_a_job_that_is_waited_for_before_there_is_a_pool_is_waited_for_still(
    config: Config, start_pool: StartPool
) -> None:
    with Client(config) as client:
        jobs(client, Enqueue([spec("echo late", id="a")]))
        found: list[Job] = []

        def wait() -> None:
            with Client(config) as other:
                found.extend(wait_for_jobs(other, ["a"], timeout=PATIENCE))

        waiting = threading.Thread(target=wait)
        waiting.start()
        start_pool()
        waiting.join(PATIENCE)
        assert [job.stdout for job in found] == ["late\n"]


def test_a_pool_that_dies_before_it_has_answered_is_an_error(config: Config, start_pool: StartPool) -> None:
    process = start_pool("--queue", "none")
    with Client(config) as client:
        jobs(client, Enqueue([spec(id="a")]))
        watched = client.ask(Watch())
        killer = threading.Timer(0.1, process.kill)
        killer.start()
        with pytest.raises(PoolGone):
            next(iter(watched))
        assert [job.id for job in jobs(client, Find())] == ["a"]


def test_a_pool_that_dies_before_it_is_greeted_is_no_pool(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair()
    there.close()
    connections = iter([here])
    monkeypatch.setattr("aqueue.control.transport.connect_control_socket", lambda _: next(connections, None))
    with Client(config) as client:
        assert [job.id for job in jobs(client, Enqueue([spec(id="a")]))] == ["a"]


def test_a_store_that_is_held_by_a_process_that_does_not_answer_is_an_error(
    config: Config, silent_holder: ExitStack
) -> None:
    with Client(config) as client:
        with pytest.raises(PoolRunning, match="does not answer"):
            jobs(client, Find())
        silent_holder.close()
        assert jobs(client, Find()) == []


def test_a_deadline_of_one_request_does_not_hold_for_the_next(config: Config, start_pool: StartPool, go: Pipe) -> None:
    start_pool()
    with Client(config) as client:
        jobs(client, Enqueue([spec(f"read x < {go.path}", id="a")]))
        client.connect(time.monotonic() + 0.01)
        waiting = threading.Timer(0.1, go.write)
        waiting.start()
        assert [job.id for job in jobs(client, Wait(["a"]))] == ["a"]
        waiting.join()


def test_a_damaged_store_is_refused_as_by_a_pool(config: Config, store: Path) -> None:
    store.mkdir(mode=0o700)
    (store / "jobs.jsonl").write_text("nonsense\n")
    with Client(config) as client, pytest.raises(DamagedStore, match="not an aqueue journal"):
        jobs(client, Find())
