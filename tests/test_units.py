"""Durations and times, in and out."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue.units import parse_duration, parse_time, relative, span

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("5m", 300),
        ("5min", 300),
        ("7d", 604800),
        ("2w", 1209600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("250ms", 0.25),
        ("1.5", 1.5),
        ("0", 0),
        (" 3 s ", 3),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "10x", "-5", "-5s", "1e5", "nan", "inf", "5s!", "1h-3m", "٣s", "9" * 400])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"10s, 5m"):
        parse_duration(text)


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 59))
def test_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


def test_a_time_with_a_zone_is_read_in_utc() -> None:
    assert parse_time("2026-12-01T03:00:00Z") == datetime(2026, 12, 1, 3, tzinfo=UTC)
    assert parse_time("2026-12-01 03:00+02:00") == datetime(2026, 12, 1, 1, tzinfo=UTC)


def test_a_time_without_a_zone_is_local() -> None:
    assert parse_time("2026-12-01T03:00") == datetime(2026, 12, 1, 3).astimezone()
    assert parse_time("2026-12-01T03:00").tzinfo is UTC


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time zone of this process, while the test runs."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "local", "moment"),
    [
        ("America/Los_Angeles", "2027-03-14T01:59:59", "2027-03-14T09:59:59Z"),
        ("America/Los_Angeles", "2027-03-14T02:00", "2027-03-14T10:00Z"),
        ("America/Los_Angeles", "2027-03-14T02:30", "2027-03-14T10:00Z"),
        ("America/Los_Angeles", "2027-03-14T02:59:59.999999", "2027-03-14T10:00Z"),
        ("America/Los_Angeles", "2027-03-14T03:00", "2027-03-14T10:00Z"),
        ("America/Los_Angeles", "2027-11-07T01:30", "2027-11-07T08:30Z"),
        ("America/Los_Angeles", "2027-11-07T02:00", "2027-11-07T10:00Z"),
        ("Europe/Berlin", "2027-03-28T02:30", "2027-03-28T01:00Z"),
        ("Europe/Berlin", "2027-10-31T02:30", "2027-10-31T00:30Z"),
        ("Australia/Lord_Howe", "2027-10-03T02:15", "2027-10-02T15:30Z"),
        ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00Z"),
        ("Asia/Kathmandu", "2027-03-14T02:30", "2027-03-13T20:45Z"),
        ("UTC", "2027-03-14T02:30", "2027-03-14T02:30Z"),
    ],
    indirect=["zone"],
)
@pytest.mark.usefixtures("zone")
def test_a_local_time_that_a_change_of_the_clocks_skips_or_repeats_is_read_as_cron_does(
    local: str, moment: str
) -> None:
    assert parse_time(local) == datetime.fromisoformat(moment)


@pytest.mark.parametrize("zone", ["America/Sao_Paulo", "Europe/London", "Africa/Casablanca"], indirect=True)
@pytest.mark.usefixtures("zone")
@given(st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1)))
def test_a_local_time_is_never_read_as_an_earlier_one(local: datetime) -> None:
    shown = parse_time(local.isoformat()).astimezone().replace(tzinfo=None)
    assert shown >= local.replace(microsecond=0)


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "25:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="2026-12-01T03:00"):
        parse_time(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (0.042, "0.04 s"), (1.23, "1.2 s"), (59.4, "59 s"), (60, "1 min"), (303, "5 min 3 s"),
     (7800, "2 h 10 min"), (3 * 86400, "3 d")],
)  # fmt: skip
def test_a_span_is_shown_in_two_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "now"), (5, "in 5 s"), (-5, "5 s ago"), (-200, "3 min ago"), (7300, "in 2 h"), (-90000, "1 d ago")],
)
def test_a_time_is_shown_from_now(seconds: float, text: str) -> None:
    assert relative(NOW + timedelta(seconds=seconds), NOW) == text
