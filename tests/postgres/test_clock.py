"""The clock of one host is wrong by an hour: the database's counts."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aqueue.jobs.job import State
from aqueue.store.postgres.database_clock import DatabaseClock
from aqueue.system.clock import monotonic
from tests.postgres.hosts import Hosts, eventually

SABOTAGED = str(Path(__file__).parents[1] / "faults" / "sabotaged.py")
HOUR = 3600


def set_clock(hosts: Hosts, hours: int) -> None:
    """Have the wall clock wrong by so many hours for those who are started with `clock` as their fault."""
    (hosts.folder / "clock").write_text(f"{hours * HOUR} 0")
    os.mkfifo(hosts.folder / "clock.changed")


@pytest.mark.slow
@pytest.mark.parametrize("hours", [1, -1])
def test_a_host_whose_clock_is_wrong_by_an_hour_does_as_the_others_do(hosts: Hosts, hours: int) -> None:
    right, wrong = hosts.add(), hosts.add(AQUEUE_KEEP="30m")
    set_clock(hosts, hours)
    fault = (SABOTAGED, json.dumps({"clock": str(hosts.folder / "clock")}))
    right.start("--queue", "right")
    hosts.ended(hosts.enqueue("true", id="kept", queue="right").id)
    wrong.start("--queue", "wrong", program=fault)
    began = time.monotonic()
    for queue in ("right", "wrong"):
        hosts.enqueue("true", id=f"later-{queue}", queue=queue, delay=1)
        hosts.enqueue("exit 1", id=f"again-{queue}", queue=queue, max_retries=1, backoff_base=1.0)
    hosts.ended("later-right", "later-wrong", "again-right", "again-wrong")
    assert 0.9 < time.monotonic() - began < 5
    jobs = hosts.jobs()
    assert jobs["again-wrong"].state is State.DEAD
    first, second = jobs["again-wrong"].history
    assert first.finished_at is not None
    assert 0.9 < (second.started_at - first.finished_at).total_seconds() < 3
    assert abs((first.finished_at - jobs["again-right"].history[0].finished_at).total_seconds()) < 5  # type: ignore[operator]
    assert "kept" in jobs, "half an hour has not gone by"


@pytest.mark.slow
@pytest.mark.parametrize("hours", [1, -1])
def test_a_pool_with_a_wrong_clock_stores_what_ended_before_it_came(hosts: Hosts, hours: int) -> None:
    host = hosts.add()
    host.start()
    hosts.enqueue(
        "touch started; until [ -e go ]; do sleep 0.02; done; exit 1", id="j", max_retries=1, backoff_base=1.0
    )
    eventually((hosts.folder / "started").exists, "the start")
    host.pool.kill()
    (hosts.folder / "go").touch()
    eventually(lambda: not host.commands(), "its end")
    set_clock(hosts, hours)
    host.start(program=(SABOTAGED, json.dumps({"clock": str(hosts.folder / "clock")})))
    began = time.monotonic()
    assert hosts.ended("j").state is State.DEAD
    assert time.monotonic() - began < 5


def test_what_the_database_said_is_of_the_middle_between_question_and_answer() -> None:
    clock, said = DatabaseClock(), datetime(2026, 1, 1, tzinfo=UTC)
    clock.set(said, monotonic() - 10)
    assert 5 <= (clock.now() - said).total_seconds() < 6


def test_a_step_of_the_databases_clock_is_told() -> None:
    clock, said = DatabaseClock(), datetime(2026, 1, 1, tzinfo=UTC)
    assert clock.set(said, monotonic()) == 0, "it was not known before"
    assert abs(clock.set(said, monotonic())) < 0.5
    assert abs(clock.set(said + timedelta(hours=1), monotonic()) - HOUR) < 0.5
    assert abs(clock.set(said, monotonic()) + HOUR) < 0.5
    assert abs((clock.now() - said).total_seconds()) < 0.5


def test_an_answer_that_was_long_in_coming_counts_only_where_it_says_something_new() -> None:
    clock, said = DatabaseClock(), datetime(2026, 1, 1, tzinfo=UTC)
    clock.set(said, monotonic())
    assert clock.set(said, monotonic() - 4) == 0, "it was read at the end of the four seconds"
    assert abs((clock.now() - said).total_seconds()) < 0.5
    assert abs(clock.set(said + timedelta(seconds=60), monotonic() - 4) - 62) < 0.5
    assert abs((clock.now() - said).total_seconds() - 62) < 0.5
