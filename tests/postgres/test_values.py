"""What is awkward to store or to send comes through unchanged."""

import pytest

from aqueue.jobs.job import State
from tests.postgres.hosts import Hosts


@pytest.mark.slow
def test_awkward_commands_output_and_names_come_through(hosts: Hosts) -> None:
    host = hosts.add()
    host.start("--queue", "a.b-c_d", "--queue", "big")
    long = "x" * 10_000_000
    hosts.enqueue(f"true {long}", id="big", queue="big")
    hosts.enqueue(r"printf 'a\000b\377\303\251'; printf '\000' >&2; exit 3", id="bytes", queue="a.b-c_d")
    hosts.enqueue("true", id="null", queue="a.b-c_d", tags=("null", "NULL", "a.b"))
    hosts.enqueue("printf '%s' \"$V\"", id="env", queue="a.b-c_d", env={"V": "\N{SNOWMAN}'\"\\{},%s%%"})
    hosts.ended("big", "bytes", "null", "env")
    jobs = hosts.jobs()
    assert jobs["big"].command.endswith(long)
    assert jobs["big"].state is State.DEAD
    assert "rgument list too long" in (jobs["big"].error or "")
    assert (jobs["bytes"].stdout, jobs["bytes"].stderr, jobs["bytes"].exit_code) == ("a\0b\ufffdé", "\0", 3)
    assert jobs["null"].tags == ("null", "NULL", "a.b")
    assert jobs["null"].state is State.COMPLETED
    assert jobs["env"].stdout == "\N{SNOWMAN}'\"\\{},%s%%"
    status, output = host.run("list", "--tag", "null")
    assert status == 0
    assert "null" in output


@pytest.mark.slow
def test_an_output_as_long_as_its_limit_is_stored(hosts: Hosts) -> None:
    host = hosts.add(AQUEUE_OUTPUT_LIMIT=str(2**24))
    host.start("--count", "4")
    jobs = hosts.enqueue_many("head -c 16777216 /dev/zero | tr '\\0' x", 4)
    hosts.ended(*(job.id for job in jobs))
    assert {len(job.stdout or "") for job in hosts.jobs().values()} == {2**24}
