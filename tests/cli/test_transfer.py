"""Records of our own export and of simple JSON queues become jobs."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from aqueue.cli.transfer import read_records
from aqueue.errors import DuplicateJob, InvalidJob
from aqueue.jobs.job import Attempt, Job, State
from aqueue.jobs.spec import Defaults

CLASSIC = {
    "id": "job1",
    "command": "echo hello",
    "state": "pending",
    "attempts": 1,
    "max_retries": 2,
    "created_at": "2025-11-04T10:30:00Z",
    "updated_at": "2025-11-04T10:31:00Z",
}
AT = datetime(2026, 3, 1, tzinfo=UTC)


def read(value: Any) -> list[Job]:
    return read_records(msgspec.json.encode(value), "f.json", Defaults(backoff_base=3.0))


def test_a_classic_record_keeps_what_it_says_and_gets_the_rest_from_the_settings() -> None:
    (job,) = read([CLASSIC])
    assert (job.id, job.command, job.state, job.attempts, job.max_retries) == (
        "job1", "echo hello", State.PENDING, 1, 2,
    )  # fmt: skip
    assert job.created_at == datetime(2025, 11, 4, 10, 30, tzinfo=UTC)
    assert (job.backoff_base, job.seq) == (3.0, 0)


def test_records_may_be_keyed_by_id() -> None:
    without = {name: value for name, value in CLASSIC.items() if name != "id"}
    for value in ({"a": without, "b": without}, {"jobs": {"a": without, "b": without}}):
        assert [job.id for job in read(value)] == ["a", "b"]


def test_an_export_comes_back_as_it_was() -> None:
    attempt = Attempt(started_at=AT, worker=1, token="", pid=5, finished_at=AT, exit_code=3)
    job = Job(
        id="a", seq=0, command="x", created_at=AT, updated_at=AT, run_at=AT, state=State.DEAD, attempts=1,
        queue="q", priority=5, timeout=2.5, cwd="/tmp", env={"A": "b"}, tags=("t",), history=(attempt,),
        stdout="out", stderr="",
    )  # fmt: skip
    assert read([job.record()]) == [job]


def test_what_was_running_elsewhere_waits_here_and_its_attempt_was_interrupted() -> None:
    (job,) = read(
        [{**CLASSIC, "state": "processing", "history": [{"started_at": "2026-03-01T00:00:00Z", "worker": 1}]}]
    )
    assert job.state is State.PENDING
    assert job.history[0].interrupted
    assert job.history[0].finished_at is not None


def test_times_without_a_zone_are_utc_and_numbers_are_seconds() -> None:
    first, second = read([{**CLASSIC, "created_at": "2026-03-01T00:00:00.5"}, {**CLASSIC, "id": "b", "created_at": 0}])
    assert first.created_at == datetime(2026, 3, 1, microsecond=500000, tzinfo=UTC)
    assert second.created_at == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"state": "zombie"}, r"record 1 \(job1\): state cannot be \"zombie\": must be one of pending, .*cancelled"),
        ({"attempts": "x"}, r"record 1 \(job1\): attempts cannot be \"x\": Expected `int`"),
        ({"created_at": "yesterday"}, "created_at cannot be"),
        ({"command": 3}, "record 1: command must be a string, not 3"),
        ({"command": " "}, "command is empty"),
        ({"max_retries": "x"}, r"record 1 \(job1\): max_retries must be an integer, not \"x\""),
        ({"cwd": "rel"}, "cwd 'rel' is not an absolute path"),
        ({"attempts": -1}, "attempts -1 is out of range"),
        ({"interruptions": 10**30}, "interruptions 1000000000000000000000000000000 is out of range"),
        ({"id": "a b"}, "id 'a b' is not allowed"),
    ],
)
def test_what_cannot_be_understood_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidJob, match=message):
        read([{**CLASSIC, **changed}])


def test_a_file_that_is_no_list_of_records_is_refused() -> None:
    for value in (3, "x", [3]):
        with pytest.raises(InvalidJob, match=r"f\.json"):
            read(value)
    with pytest.raises(InvalidJob, match="not valid JSON"):
        read_records(b"{", "f.json", Defaults())
    with pytest.raises(InvalidJob, match="not valid JSON: maximum recursion depth"):
        read_records(b"[" * 100_000, "f.json", Defaults())


def test_two_records_with_one_id_are_refused() -> None:
    with pytest.raises(DuplicateJob, match="id job1 occurs twice"):
        read([CLASSIC, CLASSIC])


def test_what_a_record_leaves_open_comes_from_the_settings() -> None:
    settings = Defaults(queue="q", max_retries=7, backoff_base=3.0, backoff_max=60.0, backoff_jitter=0.5, timeout=9.0)
    bare = {"id": "a", "command": "true"}
    (job,) = read_records(msgspec.json.encode([bare]), "f.json", settings)
    for name in Defaults.__struct_fields__:
        assert getattr(job, name) == getattr(settings, name), name
    for nothing in (None, 0, "0s"):
        (job,) = read_records(msgspec.json.encode([{**bare, "timeout": nothing}]), "f.json", settings)
        assert job.timeout is None


def test_a_null_is_as_good_as_nothing_except_for_a_limit() -> None:
    (job,) = read([{**CLASSIC, "queue": None, "backoff_base": None, "max_retries": None, "tags": None}])
    assert (job.queue, job.backoff_base, job.max_retries, job.tags) == ("default", 3.0, 3, ())


def test_a_duration_may_be_text_in_a_record_too() -> None:
    (job,) = read([{**CLASSIC, "timeout": "5m", "backoff_max": "2h"}])
    assert (job.timeout, job.backoff_max) == (300.0, 7200.0)


def test_what_equals_a_default_is_not_written() -> None:
    (job,) = read(
        [{**CLASSIC, "backoff_base": 2.0, "backoff_max": 3600.0, "max_retries": 3, "env": {}, "queue": "default"}]
    )
    assert msgspec.json.decode(msgspec.json.encode(job)).keys() == {
        "type", "id", "seq", "command", "created_at", "attempts", "updated_at",
    }  # fmt: skip


def test_times_without_a_zone_are_in_utc_also_in_the_history() -> None:
    attempt = {"started_at": "2026-03-01T00:00:00", "finished_at": "2026-03-01T01:00:00+01:00", "worker": 1}
    (job,) = read([{**CLASSIC, "created_at": "2026-03-01T00:00:00", "history": [attempt]}])
    assert (job.created_at, job.started_at, job.finished_at) == (AT, AT, AT)
    assert job.started_at is not None
    assert job.started_at.tzinfo is UTC
