"""The state machine of a job: each change of state is one pure function from a job to its successor.

No file, process or clock is touched here: whoever calls passes the time.
"""

from datetime import datetime, timedelta

from msgspec.structs import replace

from aqueue.errors import InvalidJob, InvalidRequest
from aqueue.jobs.backoff import backoff_delay
from aqueue.jobs.fields import check_name
from aqueue.jobs.job import WAITING_STATES, Attempt, Job, Outcome, State
from aqueue.jobs.spec import PLAIN_DEFAULTS, NewJob

RETRYABLE_STATES = frozenset({State.DEAD, State.CANCELLED})


def new_job(new: NewJob, *, job_id: str, seq: int, now: datetime) -> Job:
    """The job that `new` becomes when it is stored."""
    run_at, delay = new.run_at, new.delay or None
    if delay is not None:
        run_at = now + timedelta(seconds=delay)
    # As `without_defaults` does, and faster: of a long batch this is a good part.
    fields = {name: value for name, default in PLAIN_DEFAULTS.items() if (value := getattr(new, name)) != default}
    return Job(id=job_id, seq=seq, command=new.command, created_at=now, run_at=run_at, delay=delay, **fields)


def claimed(job: Job, *, worker: int, token: str, now: datetime, host: str | None = None) -> Job:
    """`job` in the hands of worker slot `worker`: an attempt has begun."""
    attempt = Attempt(started_at=now, worker=worker, token=token, host=host)
    return replace(job, state=State.PROCESSING, updated_at=now, history=(*job.history, attempt))


def settled(job: Job, outcome: Outcome, *, now: datetime, max_interruptions: int) -> Job:
    """`job` after its running attempt ended with `outcome`: done, waiting for a retry, or dead.

    An interrupted attempt costs no retry; after `max_interruptions` of them the job is dead.
    """
    attempt = replace(
        job.history[-1],
        pid=outcome.pid,
        finished_at=max(outcome.finished_at or now, job.history[-1].started_at),
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        error=outcome.error,
        interrupted=outcome.interrupted,
    )
    attempts = job.attempts + (not outcome.interrupted and not outcome.cancelled)
    interruptions = job.interruptions + outcome.interrupted
    run_at, delay = job.run_at, job.delay
    if outcome.cancelled:
        state = State.CANCELLED
    elif outcome.interrupted:
        state = State.PENDING if interruptions < max_interruptions else State.DEAD
        delay = 0.0  # its time had come already
        if state is State.DEAD:
            attempt = replace(attempt, error=f"interrupted {interruptions} times; last: {outcome.error}")
    elif outcome.success:
        state = State.COMPLETED
    elif attempts > job.max_retries:
        state = State.DEAD
    else:
        state = State.FAILED
        wait = backoff_delay(attempts, base=job.backoff_base, cap=job.backoff_max, jitter=job.backoff_jitter)
        run_at = now + timedelta(seconds=wait)
    return replace(
        job,
        state=state,
        attempts=attempts,
        interruptions=interruptions,
        updated_at=now,
        run_at=run_at,
        delay=delay,
        history=(*job.history[:-1], attempt),
        stdout=outcome.stdout,
        stderr=outcome.stderr,
    )


def cancelled(job: Job, *, now: datetime) -> Job:
    """`job`, which waits, cancelled. Raises `InvalidRequest` if it has ended already."""
    if job.state not in WAITING_STATES:
        raise InvalidRequest(f"job {job.id} is {job.state}: only a job that waits or runs can be cancelled")
    return replace(job, state=State.CANCELLED, updated_at=now)


def retried(job: Job, *, now: datetime) -> Job:
    """`job`, which is dead or cancelled, back in its queue with a full new budget and its history kept.

    Raises `InvalidRequest` in any other state.
    """
    check_retryable(job)
    return replace(job, state=State.PENDING, attempts=0, interruptions=0, updated_at=now, run_at=now, delay=0.0)


def check_retryable(job: Job) -> None:
    """Raise `InvalidRequest` unless `job` can be put back in its queue by hand."""
    if job.state not in RETRYABLE_STATES:
        raise InvalidRequest(f"job {job.id} is {job.state}: only a dead or cancelled job can be retried")


def check_removable(job: Job) -> None:
    """Raise `InvalidRequest` if `job` cannot be forgotten, because its command runs."""
    if job.state is State.PROCESSING:
        raise InvalidRequest(f"job {job.id} is processing: cancel it before you remove it")


def check_importable(job: Job) -> None:
    """Raise `InvalidJob` unless `job`, which comes from elsewhere, can be stored as it is."""
    check_name("id", job.id)
    check_name("queue", job.queue)
    if job.state is State.PROCESSING:
        raise InvalidJob(f"job {job.id} is processing: only a job that waits or has ended can be imported")
