"""The rules of a job's life, without a file, a process or a clock."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec.structs import replace

from aqueue.errors import InvalidJob, InvalidRequest
from aqueue.jobs.job import Job, Outcome, State
from aqueue.jobs.lifecycle import cancelled, claimed, new_job, retried, settled
from aqueue.jobs.spec import Defaults, JobSpec, first_duplicate

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
FAILURE = Outcome(exit_code=1)
STOPPED = Outcome(error="interrupted: the pool was stopped", interrupted=True)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def made(**fields: object) -> Job:
    spec = JobSpec(**{"command": "true", **fields}).with_defaults(Defaults())  # type: ignore[arg-type]
    return new_job(spec, job_id="a", seq=1, now=NOON)


def ran(job: Job, outcome: Outcome, *, now: datetime = NOON, max_interruptions: int = 5) -> Job:
    running = claimed(job, worker=1, token="r.1.1", now=now)
    return settled(running, outcome, now=now, max_interruptions=max_interruptions)


# What may be asked


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"command": ""}, "command"),
        ({"command": " \n\t"}, "command"),
        ({"command": "a\0b"}, "command"),
        ({"id": ""}, "id"),
        ({"id": "-a"}, "id"),
        ({"id": "a b"}, "id"),
        ({"id": "../a"}, "id"),
        ({"id": "a\n"}, "id"),
        ({"id": "é"}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"queue": "no/slash"}, "queue"),
        ({"tags": ("fine", "not fine")}, "tags"),
        ({"priority": 1_000_001}, "priority"),
        ({"delay": -1}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"backoff_base": -0.1}, "backoff_base"),
        ({"backoff_max": -1}, "backoff_max"),
        ({"backoff_jitter": 1.1}, "backoff_jitter"),
        ({"delay": 1, "run_at": NOON}, "run_at"),
        ({"run_at": NOON.replace(tzinfo=None)}, "run_at"),
        ({"run_at": datetime.fromisoformat("9999-12-31T23:59:59-12:00")}, "run_at"),
        ({"run_at": datetime.fromisoformat("0001-01-01T00:00:00+12:00")}, "run_at"),
        ({"cwd": "relative"}, "cwd"),
        ({"cwd": "/a\0b"}, "cwd"),
        ({"env": {"A=B": "c"}}, "env"),
        ({"env": {"": "c"}}, "env"),
        ({"env": {"A": "b\0"}}, "env"),
        ({"command": "echo \udcff"}, "command"),
        ({"cwd": "/\udcff"}, "cwd"),
        ({"env": {"A": "\udcff"}}, "env"),
    ],
)
def test_a_spec_out_of_range_is_refused_and_the_field_is_named(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidJob, match=field) as caught:
        made(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "0", "x" * 128, "a.b_c:d@e-f", "A-1"])
def test_an_id_of_the_allowed_characters_is_taken(name: str) -> None:
    assert JobSpec(command="true", id=name).with_defaults(Defaults()).id == name


def test_gaps_are_filled_from_the_defaults_and_what_was_said_stays() -> None:
    defaults = Defaults(queue="q", max_retries=7, backoff_base=3, timeout=9)
    spec = JobSpec(command="true", max_retries=0, timeout=1).with_defaults(defaults, "/d")
    assert (spec.queue, spec.max_retries, spec.backoff_base, spec.timeout, spec.cwd) == ("q", 0, 3, 1, "/d")


def test_a_new_job_waits_and_may_start_at_once() -> None:
    job = made()
    assert (job.state, job.attempts, job.run_at, job.due_at, job.history) == (State.PENDING, 0, None, NOON, ())


def test_a_delay_becomes_a_time_and_a_time_becomes_utc() -> None:
    assert made(delay=90).run_at == after(90)
    cest = NOON.astimezone(timezone(timedelta(hours=2)))
    run_at = made(run_at=cest).run_at
    assert run_at == NOON
    assert run_at.tzinfo is UTC


# How attempts change a job


def test_a_claimed_job_runs_and_says_who_runs_it_since_when() -> None:
    job = claimed(made(), worker=3, token="t", now=after(1))
    assert (job.state, job.started_at, job.finished_at, job.attempts) == (State.PROCESSING, after(1), None, 0)
    assert job.latest is not None
    assert (job.latest.worker, job.latest.token) == (3, "t")


def test_success_completes() -> None:
    job = ran(made(), Outcome(exit_code=0, pid=7, stdout="out", stderr="err"))
    assert (job.state, job.attempts, job.exit_code, job.stdout, job.stderr) == (State.COMPLETED, 1, 0, "out", "err")
    assert job.latest is not None
    assert job.latest.pid == 7


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(exit_code=1),
        Outcome(exit_code=255),
        Outcome(signal=9),
        Outcome(error="cannot start"),
        Outcome(exit_code=0, error="time limit of 1 s exceeded"),
    ],
)
def test_anything_else_fails_and_keeps_the_truth(outcome: Outcome) -> None:
    job = ran(made(), outcome)
    assert (job.state, job.attempts) == (State.FAILED, 1)
    assert (job.exit_code, job.signal, job.error) == (outcome.exit_code, outcome.signal, outcome.error)


def test_retries_come_after_exactly_the_backoff_and_then_the_job_is_dead() -> None:
    job, waits = made(max_retries=3, backoff_base=2), []
    for number in range(1, 5):
        now = after(1000 * number)
        job = ran(job, FAILURE, now=now)
        if job.state is State.FAILED:
            assert job.run_at is not None
            waits.append((job.run_at - now).total_seconds())
    assert waits == [2, 4, 8]
    assert (job.state, job.attempts, len(job.history)) == (State.DEAD, 4, 4)


def test_no_retries_means_one_attempt() -> None:
    assert ran(made(max_retries=0), FAILURE).state is State.DEAD


def test_the_wait_of_the_millionth_retry_is_the_cap() -> None:
    job = ran(replace(made(max_retries=10**6), attempts=999_998), FAILURE)
    assert job.run_at == after(3600)


def test_an_interrupted_attempt_costs_no_retry_and_is_in_the_history() -> None:
    job = ran(made(max_retries=0), STOPPED)
    assert (job.state, job.attempts, job.interruptions, job.run_at) == (State.PENDING, 0, 1, None)
    assert job.history[0].interrupted
    assert ran(job, Outcome(exit_code=0)).state is State.COMPLETED


def test_interruptions_have_a_budget_of_their_own() -> None:
    job = made(max_retries=100)
    for _ in range(2):
        job = ran(job, STOPPED, max_interruptions=3)
        assert job.state is State.PENDING
    job = ran(job, STOPPED, max_interruptions=3)
    assert (job.state, job.attempts) == (State.DEAD, 0)
    assert job.error is not None
    assert "interrupted 3 times" in job.error


def test_a_clock_that_went_back_does_not_end_an_attempt_before_it_began() -> None:
    running = claimed(made(), worker=1, token="t", now=after(100))
    ended = settled(running, Outcome(exit_code=0), now=after(50), max_interruptions=5)
    assert ended.finished_at == ended.started_at == after(100)


# What people do to a job


def test_a_job_that_waits_can_be_cancelled() -> None:
    for job in (made(), ran(made(), FAILURE)):
        assert cancelled(job, now=NOON).state is State.CANCELLED


def test_a_job_that_was_cancelled_while_it_ran_is_neither_tried_nor_interrupted() -> None:
    job = ran(made(), Outcome(signal=15, error="cancelled", cancelled=True))
    assert (job.state, job.attempts, job.interruptions, job.signal) == (State.CANCELLED, 0, 0, 15)


@pytest.mark.parametrize("outcome", [Outcome(exit_code=0), FAILURE])
def test_a_job_that_has_ended_cannot_be_cancelled(outcome: Outcome) -> None:
    with pytest.raises(InvalidRequest, match="job a is"):
        cancelled(ran(made(max_retries=0), outcome), now=NOON)


def test_a_dead_job_that_is_retried_has_a_full_budget_and_its_history() -> None:
    dead = ran(ran(made(max_retries=1, delay=5), FAILURE), FAILURE)
    job = retried(dead, now=after(60))
    assert (job.state, job.attempts, job.interruptions, job.run_at) == (State.PENDING, 0, 0, after(60))
    assert job.history == dead.history
    assert ran(job, FAILURE).state is State.FAILED


def test_a_cancelled_job_can_be_retried() -> None:
    assert retried(cancelled(made(delay=600), now=NOON), now=NOON).due_at == NOON


@pytest.mark.parametrize("job", [made(), ran(made(), FAILURE), ran(made(), Outcome(exit_code=0))])
def test_a_job_that_is_not_over_or_succeeded_cannot_be_retried(job: Job) -> None:
    with pytest.raises(InvalidRequest, match="only a dead or cancelled job"):
        retried(job, now=NOON)


# How it is read


def test_the_record_has_the_classic_fields_first_and_times_in_utc() -> None:
    record = ran(made(delay=1), Outcome(signal=9, stdout="x"), now=after(2)).record()
    assert list(record)[:7] == ["id", "command", "state", "attempts", "max_retries", "created_at", "updated_at"]
    assert (record["state"], record["signal"], record["exit_code"]) == ("failed", 9, None)
    assert (record["created_at"], record["started_at"]) == ("2026-06-01T12:00:00Z", "2026-06-01T12:00:02Z")
    assert [entry["attempt"] for entry in record["history"]] == [1]


def test_the_record_of_a_job_that_never_ran_is_complete() -> None:
    record = made().record()
    assert record.keys() == ran(made(), FAILURE).record().keys()
    assert (record["pid"], record["exit_code"], record["history"], record["updated_at"]) == (
        None,
        None,
        [],
        "2026-06-01T12:00:00Z",
    )


def test_only_three_states_are_final() -> None:
    assert {state for state in State if state.final} == {State.COMPLETED, State.DEAD, State.CANCELLED}


def test_the_first_id_that_occurs_twice_is_found() -> None:
    assert first_duplicate(["a", None, "b", None, "b", "a"]) == "b"
    assert first_duplicate(["a", None, None]) is None
