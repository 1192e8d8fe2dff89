"""What somebody asks for: a shell command and how to run it, checked before anything is stored.

The rules for ids, queues and tags are here; each complaint names the field and what is allowed.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from aqueue.errors import InvalidJob

ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}"
_ID = re.compile(ID_PATTERN)
_NAME_RULE = "1 to 128 letters, digits and ._:@-, starting with a letter or digit"
PRIORITY_LIMIT = 1_000_000


class Defaults(msgspec.Struct, frozen=True):
    """What a job gets where its spec is silent; with_defaults on it, so later changes of settings do not reach it.

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

    def with_defaults(self, defaults: Defaults) -> "JobSpec":
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
        check_range("priority", self.priority, -PRIORITY_LIMIT, PRIORITY_LIMIT)
        check_range("delay", self.delay, 0, 10**9)
        check_range("timeout", self.timeout, 0.001, 10**9)
        check_range("max_retries", self.max_retries, 0, 1_000_000)
        check_range("backoff_base", self.backoff_base, 0, 1_000_000)
        check_range("backoff_max", self.backoff_max, 0, 10**9)
        check_range("backoff_jitter", self.backoff_jitter, 0, 1)
        if self.delay is not None and self.run_at is not None:
            raise InvalidJob("delay and run_at both say when to start: give one of them")
        if self.run_at is not None:
            _check_time("run_at", self.run_at)
        if self.cwd is not None and (not self.cwd.startswith("/") or "\0" in self.cwd):
            raise InvalidJob(f"cwd {self.cwd!r} is not an absolute path")
        _check_text("cwd", self.cwd or "")
        for name, value in (self.env or {}).items():
            if not name or "=" in name or "\0" in name + value:
                raise InvalidJob(f"env holds {name!r}: a name without = and NUL, a value without NUL")
            _check_text("env", name + value)


def check_name(field: str, value: str) -> None:
    """Raise `InvalidJob` unless `value` may be an id, a queue or a tag."""
    if not _ID.fullmatch(value):
        raise InvalidJob(f"{field} {value[:200]!r} is not allowed: {_NAME_RULE}")


def _check_text(field: str, value: str) -> None:
    """Raise `InvalidJob` for what JSON cannot hold: bytes that are no UTF-8, as Python decodes arguments and paths."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidJob(f"{field} {value[:200]!r} is not valid UTF-8") from None


def _check_time(field: str, value: datetime) -> None:
    if value.tzinfo is None:
        raise InvalidJob(f"{field} has no time zone: write for example 2026-12-01T03:00:00Z")
    try:
        value.astimezone(UTC)
    except OverflowError:  # in UTC it is not in the years 1 to 9999
        raise InvalidJob(f"{field} {value.isoformat()} is out of range") from None


def check_range(field: str, value: float | None, low: float, high: float) -> None:
    """Raise `InvalidJob` unless `value` is None or from `low` to `high`."""
    if value is not None and not low <= value <= high:
        shown = f"{value:g}" if isinstance(value, float) else value
        raise InvalidJob(f"{field} {shown} is out of range: it must be from {low} to {high}")


def first_duplicate(ids: Iterable[str | None]) -> str | None:
    """The first id that occurs twice, if any."""
    seen: set[str] = set()
    for name in ids:
        if name is not None:
            if name in seen:
                return name
            seen.add(name)
    return None
