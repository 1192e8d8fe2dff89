"""What a field of a job may be: how it is checked, and how it is called where people give it.

A plain field is declared once, as an attribute of `JobSpec` with a `Field` beside its type. What is checked, what may
stand in JSON, the options of `aqueue enqueue`, the settings that give defaults, what an import takes and the table in
the documentation follow from that.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import msgspec

from aqueue.errors import InvalidJob
from aqueue.units import DURATION_RULE, parse_duration, parse_time

if TYPE_CHECKING:
    Seconds = float | timedelta | str
    Time = datetime | str
    Directory = str | PathLike[str]
    Environment = Mapping[str, str]
    Names = Sequence[str]
else:  # what JSON has for them
    Seconds = float | str
    Time = str
    Directory = str
    Environment = dict[str, str]
    Names = tuple[str, ...]

NAME_RULE = "1 to 128 letters, digits and ._:@-, starting with a letter or digit"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
# The types that are usual come first: to ask whether a value is any `Mapping` takes ten times as long.
_NUMBERS, _TEXT, _LISTS, _MAPPINGS = (int, float), (str, bytes), (list, tuple, Sequence), (dict, Mapping)


class Field(msgspec.Struct, frozen=True):
    """A plain field of a job.

    `kind` is one of `KINDS`. `low` and `high` bound a number, in seconds where it is a duration. `option` is what the
    command line calls it where that is not its name; `metavar` stands for its value there. With `setting`, a setting
    of the same name gives its default.
    """

    kind: str
    help: str
    low: float = 0
    high: float = 10**9
    option: str = ""
    metavar: str = ""
    setting: bool = False

    def option_name(self, name: str) -> str:
        """What the command line calls the field `name`."""
        return self.option or f"--{name.replace('_', '-')}"


def check(name: str, field: Field, value: Any) -> Any:
    """The value as a job keeps it: a duration in seconds, a time in UTC, a path as text.

    Raises `InvalidJob`, naming the field and what is allowed.
    """
    try:
        return KINDS[field.kind].convert(name, field, value)
    except TypeError:
        raise wrong_type(name, field, value) from None


def wrong_type(name: str, field: Field, value: object) -> InvalidJob:
    """What is to be raised for a value of a type that the field does not take."""
    return InvalidJob(f"{name} must be {KINDS[field.kind].rule}, not {shown(value)}")


def check_name(name: str, value: str) -> None:
    """Raise `InvalidJob` unless `value` may be an id, a queue or a tag."""
    if not _NAME.fullmatch(value):
        raise InvalidJob(f"{name} {value[:200]!r} is not allowed: {NAME_RULE}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise `InvalidJob` unless `value` is from `low` to `high`."""
    if not low <= value <= high:
        said = f"{value:g}" if isinstance(value, float) else value
        raise InvalidJob(f"{name} {said} is out of range: it must be from {low} to {high}")


def shown(value: object) -> str:
    """A value as JSON, cut where it is long."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, UnicodeEncodeError):
        text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


Convert = Callable[[str, Field, Any], Any]
"""Makes of a field's name, the field and a value what a job keeps. Raises `TypeError` where the value is of another
type, `InvalidJob` where it is not allowed."""


class Kind(msgspec.Struct, frozen=True):
    """What several fields have in common: the end of the sentence `priority must be …`, and how values are checked."""

    rule: str
    convert: Convert


# Every job of a batch passes these twice, so they ask for themselves what `check_name` and `check_range` ask again
# before they raise: with a call for each value, a job with many fields takes a fifth longer.


def _command(name: str, field: Field, value: Any) -> str:
    text = _text(name, field, value)
    if not text.strip():
        raise InvalidJob(f"{name} is empty: it must be a shell command line")
    if "\0" in text:
        raise InvalidJob(f"{name} holds a NUL character, which no command line can carry")
    return text


def _text(name: str, field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON cannot hold bytes that are no UTF-8, as Python decodes arguments and paths
        raise InvalidJob(f"{name} {value[:200]!r} is not valid UTF-8") from None
    return value


def _name(name: str, field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not _NAME.fullmatch(value):
        check_name(name, value)
    return value


def _names(name: str, field: Field, value: Any) -> tuple[str, ...]:
    if isinstance(value, _TEXT) or not isinstance(value, _LISTS):
        raise TypeError
    for each in value:
        if not isinstance(each, str):
            raise TypeError
        if not _NAME.fullmatch(each):
            check_name(name, each)
    return tuple(value)


def _whole(name: str, field: Field, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    if not field.low <= value <= field.high:
        check_range(name, value, field.low, field.high)
    return value


def _number(name: str, field: Field, value: Any) -> float:
    if not isinstance(value, _NUMBERS) or isinstance(value, bool):
        raise TypeError
    if not field.low <= value <= field.high:
        check_range(name, value, field.low, field.high)
    return value


def _seconds(name: str, field: Field, value: Any) -> float:
    if isinstance(value, float) and field.low <= value <= field.high:
        return value
    if isinstance(value, str):
        try:
            value = parse_duration(value)
        except ValueError:
            raise TypeError from None
    elif isinstance(value, timedelta):
        value = value.total_seconds()
    return _number(name, field, value)


def _limit(name: str, field: Field, value: Any) -> float | None:
    return None if value is None else _seconds(name, field, value) or None


def _time(name: str, field: Field, value: Any) -> datetime:
    if isinstance(value, str):
        try:
            return parse_time(value)
        except ValueError:
            raise TypeError from None
    if not isinstance(value, datetime):
        raise TypeError
    if value.tzinfo is None:
        raise InvalidJob(f"{name} has no time zone: write for example 2026-12-01T03:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:  # in UTC it is not in the years 1 to 9999
        raise InvalidJob(f"{name} {value.isoformat()} is out of range") from None


def _directory(name: str, field: Field, value: Any) -> str:
    path = _text(name, field, fspath(value))
    if not path.startswith("/") or "\0" in path:
        raise InvalidJob(f"{name} {path!r} is not an absolute path")
    return path


def _environment(name: str, field: Field, value: Any) -> dict[str, str] | None:
    if not isinstance(value, _MAPPINGS):
        raise TypeError
    for variable, text in value.items():
        if not isinstance(variable, str) or not isinstance(text, str):
            raise TypeError
        both = _text(name, field, variable + text)
        if not variable or "=" in variable or "\0" in both:
            raise InvalidJob(f"{name} holds {variable!r}: a name without = and NUL, a value without NUL")
    return dict(value) or None


KINDS = {
    "command": Kind("a string", _command),
    "name": Kind("a string", _name),
    "names": Kind("an array of strings", _names),
    "whole": Kind("an integer", _whole),
    "number": Kind("a number", _number),
    "seconds": Kind(f"a number of {DURATION_RULE}", _seconds),
    "limit": Kind(f"a number of {DURATION_RULE}, or null", _limit),
    "time": Kind('a time such as "2026-12-01T03:00" (local) or "2026-12-01T03:00:00Z"', _time),
    "directory": Kind("a string", _directory),
    "environment": Kind("an object of strings", _environment),
}
"""What fields can be."""
