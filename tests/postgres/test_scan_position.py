"""A scan position skips what was claimed, and never a job that was announced."""

from datetime import UTC, datetime

from aqueue.store.postgres.notifications import Ready
from aqueue.store.postgres.scan_position import ScanPositions

DUE = datetime(2026, 1, 1, tzinfo=UTC)


def begins(positions: ScanPositions) -> dict[str, str]:
    """What the next claim is sent with: ranks and numbers from which it looks."""
    sent = positions.parameters()
    return {name: sent[name] for name in ("queues", "ranks", "from")}


def test_a_claim_begins_where_the_last_one_found_its_first_job_also_within_a_batch() -> None:
    positions = ScanPositions(frozenset({"q"}))
    begins(positions)
    positions.claimed_first("q", (0, DUE, 7))
    assert begins(positions) == {"queues": '{"q"}', "ranks": '{"0"}', "from": '{"7"}'}


def test_a_notification_of_an_earlier_job_moves_it_back() -> None:
    positions = ScanPositions(frozenset({"q"}))
    positions.claimed_first("q", (0, DUE, 7))
    assert positions.job_ready(Ready("q", -5, DUE.timestamp()))
    assert begins(positions) == {"queues": '{"q"}', "ranks": '{"-5"}', "from": '{"0"}'}


def test_a_claim_that_was_in_progress_when_a_notification_came_does_not_move_it_forward() -> None:
    positions = ScanPositions(frozenset({"q"}))
    positions.claimed_first("q", (0, DUE, 7))
    begins(positions)
    positions.job_ready(Ready("q", -5, DUE.timestamp()))
    positions.claimed_first("q", (0, DUE, 11))
    assert begins(positions)["ranks"] == '{"-5"}'


def test_a_reset_keeps_a_queue_that_was_announced_meanwhile() -> None:
    positions = ScanPositions(frozenset())
    positions.job_ready(Ready("new", 0, DUE.timestamp()))
    positions.reset([])
    assert begins(positions)["queues"] == '{"new"}'
