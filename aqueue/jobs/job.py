"""A job: its states, its attempts, and its life as one immutable value after each change.

What was asked for is in `aqueue.jobs.spec`, how a job goes from state to state in `aqueue.jobs.lifecycle`.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from aqueue.jobs.spec import PLAIN_DEFAULTS, PlainFields


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
EXPIRING_STATES = frozenset({State.COMPLETED, State.CANCELLED})
"""What retention removes after a time; dead jobs wait for somebody's decision."""


class Attempt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One run of a job's command. `finished_at` is None while it runs.

    `interrupted` marks an attempt that the pool ended, or that was lost with it: it costs no retry.
    `token` names the attempt in its command's environment, so that a later pool recognises it; `host` is where it
    runs, if hosts share the queue.
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
    host: str | None = None


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
    """Where it is known when exactly the attempt ended."""

    @property
    def success(self) -> bool:
        return self.exit_code == 0 and self.error is None and not self.interrupted and not self.cancelled


class Job(PlainFields, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="job"):
    """A job as it stands after its latest change: the fields that were asked for, and what became of it.

    `seq` is its number in order of arrival and never used again; files are named by it. `run_at` is None
    for as soon as possible; `delay` is how many seconds before `run_at` it was put in line, None where a time
    by the wall clock was asked for. `stdout` and `stderr` are what the latest attempt printed (its tail where
    it is long); they are None where the store was not asked for them. As JSON a job says that it is one, for a
    journal holds other records too.
    """

    id: str
    seq: int
    command: str
    created_at: datetime
    state: State = State.PENDING
    attempts: int = 0
    updated_at: datetime | None = None
    run_at: datetime | None = None
    delay: float | None = None
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
    def wait(self) -> float | None:
        """How many seconds there were from when the job was put in line until it may start, whatever the wall
        clock is set to; None if it is to start at a time by that clock."""
        if self.run_at is None:
            return 0.0
        if self.state is State.FAILED and self.updated_at is not None:
            return (self.run_at - self.updated_at).total_seconds()
        return self.delay

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
            **{name: getattr(self, name) for name in PLAIN_DEFAULTS},
            "env": self.env or {},
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
