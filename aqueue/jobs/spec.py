"""What somebody asks for: a shell command and how to run it; and the same, checked and complete, as it is queued.

To add a plain field: declare it in `JobSpec` and `PlainFields` here (a default that a setting gives goes to `Defaults`
instead, and into config.toml), give it to `Queue.enqueue`, and say in docs/record.md what it is. A test holds all of
these against each other.
"""

import os
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from aqueue.errors import InvalidJob
from aqueue.jobs.fields import Directory, Environment, Field, Names, Seconds, Time, check

PRIORITY_LIMIT = 1_000_000
_MANY = 1_000_000


class JobSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What somebody asks for: a shell command, and how to run it.

    A duration is seconds, a `timedelta`, or text such as "5m". `run_at` is a `datetime` with a zone, or text in ISO
    form, which is local time where it names no zone. `cwd` is relative to the current directory of whoever asks.
    What is not given comes from the settings (for `id`: a new unique one is made). A `timeout` of None or 0 is no
    limit, whatever the settings say.
    """

    command: Annotated[str, Field("command", "The command line, for `/bin/sh -c`.")]
    id: Annotated[str | None, Field("name", "The job's id; a new one is made without it.")] = None
    queue: Annotated[str | None, Field("name", "The queue that a job waits in.", metavar="NAME", setting=True)] = None
    priority: Annotated[
        int, Field("whole", "Higher runs first; 0 without it.", low=-PRIORITY_LIMIT, high=PRIORITY_LIMIT)
    ] = 0
    delay: Annotated[Seconds | None, Field("seconds", "Start after this: 10s, 5m, 1h30m.", metavar="DURATION")] = None
    run_at: Annotated[
        Time | None, Field("time", "Start at this time: 2026-12-01T03:00.", option="--at", metavar="TIME")
    ] = None
    timeout: Annotated[
        Seconds | UnsetType | None,
        Field("limit", "How long one attempt may run; 0 is no limit.", metavar="DURATION", setting=True),
    ] = UNSET
    max_retries: Annotated[
        int | None, Field("whole", "Retries after the first attempt; then the job is dead.", high=_MANY, setting=True)
    ] = None
    backoff_base: Annotated[
        float | None, Field("number", "Before retry k a job waits backoff_base ** k seconds.", high=_MANY, setting=True)
    ] = None
    backoff_max: Annotated[
        Seconds | None,
        Field("seconds", "No wait before a retry is longer than this.", metavar="DURATION", setting=True),
    ] = None
    backoff_jitter: Annotated[
        float | None,
        Field("number", "The part of each wait that is random, so that retries spread out.", high=1, setting=True),
    ] = None
    cwd: Annotated[Directory | None, Field("directory", "Where it runs; here without it.", metavar="DIR")] = None
    env: Annotated[Environment | None, Field("environment", "A variable; may be repeated.", metavar="K=V")] = None
    tags: Annotated[Names, Field("names", "May be repeated.", option="--tag", metavar="TAG")] = ()

    def with_defaults(self, defaults: "Defaults", cwd: str | None = None) -> "NewJob":
        """This spec, checked, with every gap filled from `defaults`; `cwd` is the directory of whoever asks.

        Raises `InvalidJob`, naming the field and what is allowed.
        """
        values: dict[str, Any] = {}
        for name, field, default in _DECLARED:
            value = getattr(self, name)
            if value is default:
                if field.setting:
                    values[name] = getattr(defaults, name)
            elif name == "cwd" and cwd is not None:
                values[name] = check(name, field, _joined(cwd, value))
            else:
                values[name] = check(name, field, value)
        if cwd is not None:
            values.setdefault("cwd", cwd)
        new = NewJob(**values)
        _check_start(new)
        return new


def _joined(cwd: str, path: Any) -> Any:
    return os.path.normpath(os.path.join(cwd, path)) if isinstance(path, str | os.PathLike) else path


FIELDS: dict[str, Field] = {name: hint.__metadata__[0] for name, hint in JobSpec.__annotations__.items()}
"""The plain fields of a job, in the order in which people see them."""
_DECLARED = tuple((field.name, FIELDS[field.name], field.default) for field in msgspec.structs.fields(JobSpec))


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What a job gets where its spec is silent, unless the settings say something else. It is copied to the job, so a
    setting that is changed later does not concern it. `timeout` and `backoff_max` are seconds."""

    queue: str = "default"
    max_retries: int = 3
    backoff_base: float = 2.0
    backoff_max: float = 3600.0
    backoff_jitter: float = 0.0
    timeout: float | None = None


class PlainFields(Defaults, frozen=True, kw_only=True):
    """The fields that a job keeps as they were asked for."""

    priority: int = 0
    cwd: str | None = None
    env: dict[str, str] | None = None
    tags: tuple[str, ...] = ()


PLAIN_FIELDS = PlainFields.__struct_fields__


class NewJob(PlainFields, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A job that is to be queued: checked, and nothing left open. `delay` is seconds, `run_at` in UTC."""

    command: str
    id: str | None = None
    delay: float | None = None
    run_at: datetime | None = None

    def validate(self) -> None:
        """Raise `InvalidJob`, naming the field and what is allowed, if this cannot become a job.

        For what comes from elsewhere: what `JobSpec.with_defaults` returns is valid.
        """
        for name, field, default in _DECLARED:
            value = getattr(self, name)
            if value is not default and value is not None:
                check(name, field, value)
        _check_start(self)


def _check_start(new: NewJob) -> None:
    if new.delay is not None and new.run_at is not None:
        raise InvalidJob("delay and run_at both say when to start: give one of them")


def first_duplicate(ids: Iterable[str | None]) -> str | None:
    """The first id that occurs twice, if any."""
    seen: set[str] = set()
    for name in ids:
        if name is not None:
            if name in seen:
                return name
            seen.add(name)
    return None
