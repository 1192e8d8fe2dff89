"""What gets in the way of round trips, such as locks of other transactions: all else goes on, nothing is forgotten."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psutil
import psycopg
import pytest

from aqueue.attempts.token import Token
from aqueue.jobs.job import State
from aqueue.jobs.spec import Defaults, JobSpec
from aqueue.store.postgres import insert, parameters, schema, statements
from aqueue.store.postgres.database_clock import DatabaseClock
from aqueue.store.postgres.in_flight import InFlight
from aqueue.store.postgres.prepared import PreparedConnection
from aqueue.store.postgres.promotion import Promotion
from aqueue.store.postgres.rows import ClaimedJob
from aqueue.store.postgres.scan_position import ScanPositions
from aqueue.store.postgres.sweep import Sweep
from tests.postgres.hosts import LEASE, Host, Hosts, eventually

SOON = 5.0
"""Seconds, well before the next look at everything."""


@contextmanager
def locked(hosts: Hosts, table: str, where: str = "true") -> Iterator[None]:
    """Rows that are locked during a `with` block."""
    with psycopg.connect(hosts.url) as connection:
        connection.execute(f"SELECT FROM aqueue.{table} WHERE {where} FOR UPDATE")
        yield
        connection.rollback()


def seldom_looking(hosts: Hosts) -> Host:
    """A host that looks at everything when it starts, and then not for 30 s."""
    host = hosts.add()
    host.environ["AQUEUE_LEASE"] = "60"
    return host


@pytest.mark.slow
def test_a_claim_that_is_answered_too_late_for_the_lease_costs_no_worker(hosts: Hosts) -> None:
    host = hosts.add()
    host.start("--count", "1")
    with locked(hosts, "pool"):
        hosts.enqueue("true", id="j")
        time.sleep(LEASE / 2 + 0.5)
    began = time.monotonic()
    assert hosts.ended("j").state is State.COMPLETED
    assert hosts.ended(hosts.enqueue("true").id).state is State.COMPLETED
    assert time.monotonic() - began < SOON


@pytest.mark.slow
def test_a_locked_job_holds_up_neither_results_nor_claims_of_others(hosts: Hosts) -> None:
    host = hosts.add()
    host.start("--count", "2")
    hosts.enqueue("touch started; until [ -e go ]; do sleep 0.02; done", id="held")
    eventually((hosts.folder / "started").exists, "the start")
    with locked(hosts, "job_active", "id = 'held'"):
        (hosts.folder / "go").touch()
        eventually(lambda: not host.commands(), "its end")
        time.sleep(LEASE)  # whatever has waited for the lock has given up
        began = time.monotonic()
        hosts.ended(*(job.id for job in hosts.enqueue_many("true", 5)))
        assert time.monotonic() - began < SOON
        assert hosts.job("held").state is State.PROCESSING
    began = time.monotonic()
    assert hosts.ended("held").state is State.COMPLETED
    assert time.monotonic() - began < SOON
    assert len(hosts.job("held").history) == 1


def test_a_job_that_a_claim_passed_over_is_not_forgotten(hosts: Hosts) -> None:
    host = seldom_looking(hosts)
    host.start("--count", "1")
    hosts.enqueue("touch started; until [ -e go ]; do sleep 0.02; done", priority=9)
    eventually((hosts.folder / "started").exists, "the start")
    hosts.enqueue("true", id="first", priority=5)
    hosts.enqueue("touch later; until [ -e end ]; do sleep 0.02; done", id="later")
    time.sleep(0.5)  # the pool has received the notifications of both
    with locked(hosts, "job_active", "id = 'first'"):
        (hosts.folder / "go").touch()
        eventually((hosts.folder / "later").exists, "the claim that passes over")
    (hosts.folder / "end").touch()
    eventually(lambda: hosts.job("first").state is State.COMPLETED, "its turn", SOON)  # a wait would tell the pool


@pytest.mark.slow
def test_a_retry_is_timed_also_if_another_timer_went_off_before_it_was_stored(hosts: Hosts) -> None:
    host = seldom_looking(hosts)
    host.start("--count", "2")
    command = "touch started; until [ -e go ]; do sleep 0.02; done; exit 1"
    hosts.enqueue(command, id="y", max_retries=1, backoff_base=4.0)
    hosts.enqueue("true", id="x", delay=1.5)
    eventually((hosts.folder / "started").exists, "the start")
    with locked(hosts, "pool"):
        hosts.enqueue("true")  # its claim waits for the lock, and all that comes after it
        time.sleep(0.3)
        (hosts.folder / "go").touch()
        time.sleep(1.7)  # x is due
    began = time.monotonic()
    assert hosts.ended("y").state is State.DEAD
    assert time.monotonic() - began < 4 + SOON


@pytest.mark.slow
def test_a_locked_job_that_is_due_keeps_nobody_busy(hosts: Hosts) -> None:
    host = hosts.add()
    host.start("--count", "1")
    hosts.enqueue("true", id="j", delay=1)
    with locked(hosts, "job_active", "id = 'j'"):
        time.sleep(1.2)
        before = psutil.Process(host.pool.pid).cpu_times()
        time.sleep(2)
        after = psutil.Process(host.pool.pid).cpu_times()
    assert after.user + after.system - before.user - before.system < 0.3
    began = time.monotonic()
    assert hosts.ended("j").state is State.COMPLETED
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("due", ["-62135596800", "1e300", "-1e300"])
def test_a_notification_of_an_impossible_time_keeps_no_later_one_from_any_pool(hosts: Hosts, due: str) -> None:
    host = seldom_looking(hosts)
    host.start()
    hosts.enqueue("true", run_at=datetime.min.replace(tzinfo=UTC))
    for what in (f'"type":"Later","due":{due}', f'"type":"Ready","queue":"default","rank":0,"due":{due}'):
        hosts.sql(f"NOTIFY aqueue, '{{{what}}}'")
    job = hosts.enqueue("true", priority=1)
    eventually(lambda: hosts.job(job.id).state is State.COMPLETED, "its turn", SOON)


def test_a_claim_is_not_undone_by_what_was_meant_for_the_one_before(hosts: Hosts) -> None:
    hosts.add().run("store", "init")
    hosts.enqueue("true")
    hosts.sql("INSERT INTO aqueue.pool VALUES ('r', 'h', 'home', '{}', now(), '1 hour')")
    asyncio.run(_claim_twice(hosts.url))


async def test_a_claim_makes_the_token_that_the_files_of_an_attempt_are_found_by(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await schema.prepare(connection)
        ((job,), _) = await insert.add_jobs(connection, [JobSpec(command="true").with_defaults(Defaults())])
        await connection.execute("INSERT INTO aqueue.pool VALUES ('0a1b2c', 'h', 'home', '{}', now(), '1 hour')")
        claim = {"run": "0a1b2c", **parameters.claim([12], ScanPositions(frozenset({"default"})))}
        with PreparedConnection.open(connection) as prepared:
            (row,) = await prepared.execute(statements.CLAIM, claim)
    assert isinstance(row, statements.Claimed)
    assert row.token is not None
    token = Token.parse(row.token)
    assert token == Token(run="0a1b2c", slot=12, seq=job.seq, attempt=1)
    assert str(token) == row.token


async def _claim_twice(url: str) -> None:
    positions = ScanPositions(frozenset({"default"}))
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        with PreparedConnection.open(connection) as prepared:

            async def claim() -> dict[str, str]:
                (row,) = await prepared.execute(statements.CLAIM, {"run": "r", **parameters.claim([1], positions)})
                assert isinstance(row, statements.Claimed)
                return parameters.return_claimed("r", [ClaimedJob.from_row(row)])

            async def returned(claimed: dict[str, str]) -> list[int]:
                return [row.seq for row in await prepared.execute(statements.RETURN, claimed)]

            first = await claim()
            assert await returned(first) == [1]
            second = await claim()
            assert first["tokens"] == second["tokens"]
            assert await returned(first) == []
            assert await returned(second) == [1]


async def test_many_sweeps_that_find_a_lock_ask_for_one_more(hosts: Hosts) -> None:
    async with await psycopg.AsyncConnection.connect(hosts.url, autocommit=True) as connection:
        await schema.prepare(connection)
        ((job,), _) = await insert.add_jobs(connection, [JobSpec(command="true").with_defaults(Defaults())])
        requests: list[None] = []
        in_flight, positions = InFlight(), ScanPositions(frozenset())
        in_flight.locked = {job.seq}
        promotion = Promotion(DatabaseClock(), lambda: None)
        sweep = Sweep("r", in_flight, positions, promotion, lambda: requests.append(None))
        with locked(hosts, "job_active"), PreparedConnection.open(connection) as prepared:
            for _ in range(10):
                await sweep.run(prepared)
        await asyncio.sleep(1.5)
        assert len(requests) == 1
        sweep.close()
