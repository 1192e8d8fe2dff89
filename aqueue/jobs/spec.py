"""What somebody asks for: a shell command and how to run it; and the same, checked and complete, as it is queued.

To add a plain field: declare it in `JobSpec` and `PlainFields` here (a default that a setting gives goes to `Defaults`
instead, and into config.toml), give it to `Queue.enqueue`, and say in docs/record.md what it is. A test holds all of
these against each other.
"""

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from aqueue.errors import InvalidJob
from aqueue.jobs.fields import KINDS, Convert, Directory, Environment, Field, Names, Seconds, Time, wrong_type

PRIORITY_LIMIT = 1_000_000
_MANY = 1_000_000


class JobSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What somebody asks for: a shell command, and how to run it.

    A duration is seconds, a `timedelta`, or text such as "5m". `run_at` is a `datetime` with a zone, or text in ISO
    form, which is local time where it names no zone. `cwd` is relative to the current directory of the caller.
    What is left out comes from the settings (for `id`: a new unique one is made). A `timeout` of None or 0 is no
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
    env: Annotated[
        Environment | None, Field("environment", "A variable of its environment; may be repeated.", metavar="K=V")
    ] = None
    tags: Annotated[Names, Field("names", "A tag to find it by; may be repeated.", option="--tag", metavar="TAG")] = ()

    def with_defaults(self, defaults: "Defaults", cwd: str | None = None) -> "NewJob":
        """This spec, checked, with every gap filled from `defaults`; `cwd` is the current directory of the caller.

        Raises `InvalidJob`, naming the field and what is allowed.
        """
        filled = {name: getattr(defaults, name) for name in Defaults.__struct_fields__}
        return NewJob(**{**filled, "cwd": cwd, **_checked(self, _SPEC_FIELDS, cwd)})


FIELDS: dict[str, Field] = {name: hint.__metadata__[0] for name, hint in JobSpec.__annotations__.items()}
"""The plain fields of a job, in the order in which people see them."""


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What a job gets for what its spec leaves out, unless the settings say something else. It is copied to the job, so
    that a later change of the settings does not concern it. `timeout` and `backoff_max` are seconds."""

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


PLAIN_DEFAULTS: dict[str, Any] = {
    name: getattr(PlainFields(), name) for name in FIELDS if name in PlainFields.__struct_fields__
}
"""The fields of `PlainFields` in the order of `FIELDS`, each with its default."""


def without_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without those that equal a default: a job then has the default itself, which is not written, and takes
    no memory of its own."""
    return {name: value for name, value in values.items() if value != PLAIN_DEFAULTS.get(name, UNSET)}


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
        _checked(self, _NEW_JOB_FIELDS)


Declared = tuple[tuple[str, Field, Convert, Any], ...]


def _declared(blank: JobSpec | NewJob) -> Declared:
    """Each field: its name, what is declared of it, its conversion, and its default, as a `blank` job has it."""
    return tuple((name, field, KINDS[field.kind].convert, getattr(blank, name)) for name, field in FIELDS.items())


_REQUIRED: Any = msgspec.NODEFAULT
_SPEC_FIELDS = _declared(JobSpec(command=_REQUIRED))
_NEW_JOB_FIELDS = _declared(NewJob(command=_REQUIRED))


def _checked(job: JobSpec | NewJob, declared: Declared, cwd: str | None = None) -> dict[str, Any]:
    """What `job` says, as a job keeps it. Raises `InvalidJob`."""
    values = {}
    name, value = "", None
    try:
        for name, field, convert, default in declared:
            value = getattr(job, name)
            if value is not default:
                if cwd is not None and field.kind == "directory" and not os.path.isabs(value):
                    value = os.path.normpath(os.path.join(cwd, value))
                values[name] = convert(name, field, value)
    except TypeError:  # what converts a value raises it: a check before would slow down every batch
        raise wrong_type(name, FIELDS[name], value) from None
    if "delay" in values and "run_at" in values:
        raise InvalidJob("delay and run_at both say when to start: give one of them")
    return values


def first_duplicate(ids: Iterable[str | None]) -> str | None:
    """The first id that occurs twice, if any."""
    seen: set[str] = set()
    for name in ids:
        if name is not None:
            if name in seen:
                return name
            seen.add(name)
    return None
