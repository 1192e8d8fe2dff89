"""Subscribers: each gets every change, whatever another does with it."""

from datetime import UTC, datetime

import pytest

from aqueue.jobs.job import Job
from aqueue.store.subscriptions import Subscribers


def job(job_id: str) -> Job:
    return Job(id=job_id, seq=1, command="true", created_at=datetime.now(UTC))


def test_a_subscriber_that_fails_is_logged_and_ends_nobody_elses_notifications(
    caplog: pytest.LogCaptureFixture,
) -> None:
    subscribers, seen = Subscribers(), list[str]()

    def fail(_: object) -> None:
        raise RuntimeError("its own fault")

    subscribers.subscribe(fail, fail)
    subscribers.subscribe(lambda job: seen.append(job.id), seen.append)
    subscribers.publish_change(job("a"))
    subscribers.publish_removal("a")
    assert seen == ["a", "a"]
    assert [record.name for record in caplog.records] == ["aqueue.store"] * 2
    assert "its own fault" in caplog.text


def test_who_unsubscribes_gets_no_more() -> None:
    subscribers, seen = Subscribers(), list[str]()
    unsubscribe = subscribers.subscribe(lambda job: seen.append(job.id), seen.append)
    subscribers.publish_change(job("a"))
    unsubscribe()
    subscribers.publish_change(job("b"))
    subscribers.publish_removal("b")
    assert seen == ["a"]
