"""A job: what was asked (`JobSpec`), and its life (`Job`).

Jobs are immutable values. Each change of state is one pure function from a job to its successor:
`claimed`, `settled`, `cancelled`, `retried`. No file, process or clock is touched here: whoever calls
passes the time.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from aqueue.backoff import backoff_delay
from aqueue.errors import InvalidJob, InvalidRequest, printable

ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}"
_ID = re.compile(ID_PATTERN)
_NAME_RULE = "1 to 128 letters, digits and ._:@-, starting with a letter or digit"
PRIORITY_LIMIT = 1_000_000


class State(StrEnum):
    """Where a job is in its life. `failed` will be retried; `dead` is the dead letter queue."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the job stays as it is until somebody asks for something else."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({State.COMPLETED, State.DEAD, State.CANCELLED})
WAITING_STATES = frozenset({State.PENDING, State.FAILED})


class Defaults(msgspec.Struct, frozen=True):
    """What a job gets where its spec is silent; stamped on it, so later changes of settings do not reach it.

    `timeout`, `backoff_max` in seconds; `backoff_jitter` a fraction from 0 to 1.
    """

    queue: str = "default"
    max_retries: int = 3
    backoff_base: float = 2.0
    backoff_max: float = 3600.0
    backoff_jitter: float = 0.0
    timeout: float | None = None
    cwd: str | None = None


class JobSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What somebody asks for: a shell command, and how to run it.

    `timeout` and `delay` are seconds, `run_at` is a time with a zone; `None` leaves the choice to the
    settings (for `id`: a new unique one is made). `backoff_max` and `backoff_jitter` are like the settings.
    """

    command: str
    id: str | None = None
    queue: str | None = None
    priority: int = 0
    delay: float | None = None
    run_at: datetime | None = None
    timeout: float | None = None
    max_retries: int | None = None
    backoff_base: float | None = None
    backoff_max: float | None = None
    backoff_jitter: float | None = None
    cwd: str | None = None
    env: dict[str, str] | None = None
    tags: tuple[str, ...] = ()

    def stamped(self, defaults: Defaults) -> "JobSpec":
        """This spec with every gap filled from `defaults`. Raises `InvalidJob` where a field is out of range."""
        self.validate()
        gaps = {name: getattr(defaults, name) for name in Defaults.__struct_fields__ if getattr(self, name) is None}
        return replace(self, **gaps)

    def validate(self) -> None:
        """Raise `InvalidJob`, naming the field and what is allowed, if this cannot become a job."""
        if not self.command.strip():
            raise InvalidJob("command is empty: it must be a shell command line")
        if "\0" in self.command:
            raise InvalidJob("command holds a NUL character, which no command line can carry")
        _check_text("command", self.command)
        if self.id is not None:
            check_name("id", self.id)
        if self.queue is not None:
            check_name("queue", self.queue)
        for tag in self.tags:
            check_name("tags", tag)
        _check_range("priority", self.priority, -PRIORITY_LIMIT, PRIORITY_LIMIT)
        _check_range("delay", self.delay, 0, 10**9)
        _check_range("timeout", self.timeout, 0.001, 10**9)
        _check_range("max_retries", self.max_retries, 0, 1_000_000)
        _check_range("backoff_base", self.backoff_base, 0, 1_000_000)
        _check_range("backoff_max", self.backoff_max, 0, 10**9)
        _check_range("backoff_jitter", self.backoff_jitter, 0, 1)
        if self.delay is not None and self.run_at is not None:
            raise InvalidJob("delay and run_at both say when to start: give one of them")
        if self.run_at is not None and self.run_at.tzinfo is None:
            raise InvalidJob("run_at has no time zone: write for example 2026-12-01T03:00:00Z")
        if self.cwd is not None and (not self.cwd.startswith("/") or "\0" in self.cwd):
            raise InvalidJob(f"cwd {printable(self.cwd)!r} is not an absolute path")
        _check_text("cwd", self.cwd or "")
        for name, value in (self.env or {}).items():
            if not name or "=" in name or "\0" in name + value:
                raise InvalidJob(f"env holds {printable(name)!r}: a name without = and NUL, a value without NUL")
            _check_text("env", name + value)


class Attempt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One run of a job's command. `finished_at` is None while it runs.

    `interrupted` marks an attempt that the pool ended, or that was lost with it: it costs no retry.
    `token` names the attempt in its command's environment, so that a later pool recognises it.
    """

    started_at: datetime
    worker: int
    token: str
    pid: int | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    interrupted: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """How an attempt ended: exit status, or signal number, or why it could not run; and what it printed."""

    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    interrupted: bool = False
    cancelled: bool = False
    pid: int | None = None
    stdout: str = ""
    stderr: str = ""
    finished_at: datetime | None = None
    """Where it is known that the attempt ended earlier than this is settled."""

    @property
    def success(self) -> bool:
        return self.exit_code == 0 and self.error is None and not self.interrupted and not self.cancelled


class Job(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A job as it stands after its latest change.

    `seq` is its number in order of arrival and never used again; files are named by it. `run_at` is None
    for as soon as possible. `stdout` and `stderr` are what the latest attempt printed (its tail where it
    is long); they are None where the store was not asked for them.
    """

    id: str
    seq: int
    command: str
    created_at: datetime
    state: State = State.PENDING
    attempts: int = 0
    max_retries: int = 3
    updated_at: datetime | None = None
    queue: str = "default"
    priority: int = 0
    run_at: datetime | None = None
    timeout: float | None = None
    backoff_base: float = 2.0
    backoff_max: float = 3600.0
    backoff_jitter: float = 0.0
    cwd: str | None = None
    env: dict[str, str] | None = None
    tags: tuple[str, ...] = ()
    interruptions: int = 0
    history: tuple[Attempt, ...] = ()
    stdout: str | None = None
    stderr: str | None = None

    @property
    def latest(self) -> Attempt | None:
        """The attempt that runs, or ran last."""
        return self.history[-1] if self.history else None

    @property
    def due_at(self) -> datetime:
        """When the job may start."""
        return self.run_at or self.created_at

    @property
    def exit_code(self) -> int | None:
        return self.history[-1].exit_code if self.history else None

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended the latest attempt."""
        return self.history[-1].signal if self.history else None

    @property
    def error(self) -> str | None:
        """Why the latest attempt did not end on its own account, or could not start."""
        return self.history[-1].error if self.history else None

    @property
    def started_at(self) -> datetime | None:
        return self.history[-1].started_at if self.history else None

    @property
    def finished_at(self) -> datetime | None:
        return self.history[-1].finished_at if self.history else None

    def record(self) -> dict[str, Any]:
        """The job as people and scripts read it: every field by name, times as RFC 3339 in UTC."""
        latest = self.latest
        flat: dict[str, Any] = {
            "id": self.id,
            "command": self.command,
            "state": self.state,
            "attempts": self.attempts,
            "max_retries": self.max_retries,
            "created_at": self.created_at,
            "updated_at": self.updated_at or self.created_at,
            "queue": self.queue,
            "priority": self.priority,
            "run_at": self.due_at,
            "timeout": self.timeout,
            "backoff_base": self.backoff_base,
            "backoff_max": self.backoff_max,
            "backoff_jitter": self.backoff_jitter,
            "cwd": self.cwd,
            "env": self.env or {},
            "tags": self.tags,
            "interruptions": self.interruptions,
        }
        for name in ("started_at", "finished_at", "worker", "pid", "exit_code", "signal", "error"):
            flat[name] = getattr(latest, name) if latest else None
        flat["stdout"] = self.stdout
        flat["stderr"] = self.stderr
        flat["history"] = [
            {"attempt": number, **{name: getattr(attempt, name) for name in _ATTEMPT_FIELDS}}
            for number, attempt in enumerate(self.history, 1)
        ]
        plain: dict[str, Any] = msgspec.to_builtins(flat)
        return plain


_ATTEMPT_FIELDS = tuple(name for name in Attempt.__struct_fields__ if name != "token")


def utc_now() -> datetime:
    return datetime.now(UTC)


def check_name(field: str, value: str) -> None:
    """Raise `InvalidJob` unless `value` may be an id, a queue or a tag."""
    if not _ID.fullmatch(value):
        raise InvalidJob(f"{field} {printable(value[:200])!r} is not allowed: {_NAME_RULE}")


def _check_text(field: str, value: str) -> None:
    """Raise `InvalidJob` for what JSON cannot hold: bytes that are no UTF-8, as Python decodes arguments and paths."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidJob(f"{field} {printable(value[:200])!r} is not valid UTF-8") from None


def _check_range(field: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise InvalidJob(f"{field} {value} is out of range: it must be from {low} to {high}")


def new_job(spec: JobSpec, *, job_id: str, seq: int, now: datetime) -> Job:
    """The job that a stamped and validated `spec` becomes when it is stored."""
    run_at = spec.run_at.astimezone(UTC) if spec.run_at else None
    if spec.delay:
        run_at = now + timedelta(seconds=spec.delay)
    given = {name: value for name in _SHARED if (value := getattr(spec, name)) is not None}
    return Job(id=job_id, seq=seq, command=spec.command, created_at=now, run_at=run_at, **given)


_SHARED = sorted(set(JobSpec.__struct_fields__) - {"command", "id", "delay", "run_at"})


def claimed(job: Job, *, worker: int, token: str, now: datetime) -> Job:
    """`job` in the hands of worker slot `worker`: an attempt has begun."""
    attempt = Attempt(started_at=now, worker=worker, token=token)
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
    run_at = job.run_at
    if outcome.cancelled:
        state = State.CANCELLED
    elif outcome.interrupted:
        state = State.PENDING if interruptions < max_interruptions else State.DEAD
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
    if job.state not in (State.DEAD, State.CANCELLED):
        raise InvalidRequest(f"job {job.id} is {job.state}: only a dead or cancelled job can be retried")
    return replace(job, state=State.PENDING, attempts=0, interruptions=0, updated_at=now, run_at=now)


def first_duplicate(ids: Iterable[str | None]) -> str | None:
    """The first id that occurs twice, if any."""
    seen: set[str] = set()
    for name in ids:
        if name is not None:
            if name in seen:
                return name
            seen.add(name)
    return None
