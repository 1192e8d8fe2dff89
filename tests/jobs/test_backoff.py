"""How long a failed job waits."""

import math

import pytest

from aqueue.jobs.backoff import backoff_delay


def test_each_wait_is_a_power_of_the_base() -> None:
    assert [backoff_delay(retry, base=2, cap=3600) for retry in range(1, 12)] == [2.0**k for k in range(1, 12)]


def test_no_wait_exceeds_the_cap() -> None:
    assert backoff_delay(12, base=2, cap=3600) == 3600
    assert backoff_delay(11, base=2, cap=2048) == 2048


@pytest.mark.parametrize("retry", [1024, 10**6, 10**30])
def test_a_large_exponent_reaches_the_cap_and_does_not_overflow(retry: int) -> None:
    assert backoff_delay(retry, base=1_000_000, cap=3600) == 3600


@pytest.mark.parametrize("retry", [1, 2, 10**6])
def test_a_base_of_zero_does_not_wait(retry: int) -> None:
    assert backoff_delay(retry, base=0, cap=3600) == 0


def test_a_base_of_one_waits_a_second_each_time() -> None:
    assert {backoff_delay(retry, base=1, cap=3600) for retry in (1, 7, 10**6)} == {1.0}


def test_a_base_below_one_waits_less_each_time() -> None:
    waits = [backoff_delay(retry, base=0.5, cap=3600) for retry in (1, 2, 3)]
    assert waits == [0.5, 0.25, 0.125]
    assert backoff_delay(10**6, base=0.5, cap=3600) == 0


@pytest.mark.parametrize("base", [0.5, 1, 2])
def test_a_cap_of_zero_means_no_wait(base: float) -> None:
    assert backoff_delay(1, base=base, cap=0) == 0


def test_jitter_spreads_waits_below_the_delay_and_never_above() -> None:
    waits = [backoff_delay(3, base=2, cap=3600, jitter=0.25) for _ in range(500)]
    assert all(6 <= wait <= 8 for wait in waits)
    assert min(waits) < 6.5
    assert max(waits) > 7.5


def test_jitter_stays_below_the_cap() -> None:
    assert all(backoff_delay(50, base=2, cap=10, jitter=1) <= 10 for _ in range(200))


def test_every_wait_is_a_finite_number() -> None:
    assert all(math.isfinite(backoff_delay(k, base=b, cap=10**9)) for k in range(1, 3000) for b in (0.1, 2, 999_999))
