"""ScanPositions skip what was claimed, and never a job that somebody has told of."""

from datetime import UTC, datetime

from aqueue.store.postgres.notifications import Ready
from aqueue.store.postgres.scan_position import ScanPositions

DUE = datetime(2026, 1, 1, tzinfo=UTC)


def begins(bookmarks: ScanPositions) -> dict[str, str]:
    """What the next claim is sent with: ranks and numbers from which it looks."""
    sent = bookmarks.parameters()
    return {name: sent[name] for name in ("queues", "ranks", "from")}


def test_a_claim_begins_where_the_last_one_found_its_first_job_also_within_a_batch() -> None:
    bookmarks = ScanPositions(frozenset({"q"}))
    begins(bookmarks)
    bookmarks.claimed("q", (0, DUE, 7))
    assert begins(bookmarks) == {"queues": '{"q"}', "ranks": '{"0"}', "from": '{"7"}'}


def test_a_notice_of_an_earlier_job_moves_it_back() -> None:
    bookmarks = ScanPositions(frozenset({"q"}))
    bookmarks.claimed("q", (0, DUE, 7))
    assert bookmarks.ready(Ready("q", -5, DUE.timestamp()))
    assert begins(bookmarks) == {"queues": '{"q"}', "ranks": '{"-5"}', "from": '{"0"}'}


def test_a_claim_that_was_under_way_when_a_notice_came_does_not_move_it_forward() -> None:
    bookmarks = ScanPositions(frozenset({"q"}))
    bookmarks.claimed("q", (0, DUE, 7))
    begins(bookmarks)
    bookmarks.ready(Ready("q", -5, DUE.timestamp()))
    bookmarks.claimed("q", (0, DUE, 11))
    assert begins(bookmarks)["ranks"] == '{"-5"}'


def test_a_look_at_all_queues_does_not_forget_one_that_came_up_meanwhile() -> None:
    bookmarks = ScanPositions(frozenset())
    bookmarks.ready(Ready("new", 0, DUE.timestamp()))
    bookmarks.reset([])
    assert begins(bookmarks)["queues"] == '{"new"}'
