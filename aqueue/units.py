"""Durations and times as people write and read them.

In: `10s`, `5m`, `1h30m`, `250ms`, `7d` or plain seconds; times in ISO form, local unless they name a zone.
Out: `3 min ago`, `in 5 s`, `1.2 s`. Inside aqueue a duration is seconds and a time is UTC with its zone.
"""

import math
import re
from datetime import UTC, datetime, timedelta

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
DURATION_RULE = "seconds, or a duration such as 250ms, 10s, 5m, 1h30m, 7d"

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d|w)\s*", re.ASCII)
_PLAIN = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)


def parse_duration(text: str) -> float:
    """Return the seconds that `text` says. Raises `ValueError` saying what is allowed."""
    text = text.strip()
    if _PLAIN.fullmatch(text):
        seconds = float(text)
    else:
        seconds, position = 0.0, 0
        while part := _PART.match(text, position):
            seconds += float(part[1]) * SECONDS[part[2]]
            position = part.end()
        if position != len(text) or not text:
            raise ValueError(f"must be {DURATION_RULE}")
    if not math.isfinite(seconds):
        raise ValueError(f"must be {DURATION_RULE}")
    return seconds


def parse_time(text: str) -> datetime:
    """Return the time that ISO `text` says, in UTC; without a zone it is local time (see `from_local`).

    Raises `ValueError` saying what is allowed.
    """
    try:
        time = datetime.fromisoformat(text.strip())
        return from_local(time) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError("must be a time such as 2026-12-01T03:00 (local) or 2026-12-01T03:00:00Z") from None


def from_local(time: datetime) -> datetime:
    """Return the moment, in UTC, at which local clocks show the naive `time`.

    Where the clocks are set back they show it twice: the first time counts. Where they are set forward they may never
    show it: then it is the moment of the change, as in Debian's cron. Raises `OverflowError`, `OSError` for a time
    that the system cannot convert.
    """
    first = time.replace(fold=0).astimezone(UTC)
    if first.astimezone().replace(tzinfo=None, fold=0) == time.replace(fold=0):
        return first
    before, after = sorted((first, time.replace(fold=1).astimezone(UTC)))
    offset = before.astimezone().utcoffset()
    while after - before > timedelta(seconds=1):  # the change is between them: look for its second
        middle = before + (after - before) / 2
        before, after = (middle, after) if middle.astimezone().utcoffset() == offset else (before, middle)
    return after.replace(microsecond=0)


def span(seconds: float) -> str:
    """A duration in at most two units: `0.04 s`, `1.2 s`, `5 min 3 s`, `2 h 10 min`, `3 d`."""
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 0.1 or seconds <= 0 else f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, name, small, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {name} {rest} {small_name}" if rest else f"{whole // size} {name}"
    raise AssertionError(whole)


def relative(when: datetime, now: datetime) -> str:
    """`when` seen from `now`: `3 min ago`, `in 5 s`, `now`."""
    seconds = (when - now).total_seconds()
    size = abs(seconds)
    if size < 1:
        return "now"
    unit, name = next(pair for pair in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")) if size >= pair[0])
    count = int(size // unit)
    return f"in {count} {name}" if seconds > 0 else f"{count} {name} ago"
