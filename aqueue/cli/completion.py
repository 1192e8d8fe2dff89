"""Completion of words from the queue, for the shells that ask for it."""

from collections.abc import Callable, Iterable

import typer

from aqueue.cli import context
from aqueue.control.requests import Find
from aqueue.errors import AqueueError

_LATEST = 200
"""How many jobs' ids are offered."""


def complete_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """The ids of the latest jobs."""
    return _matching(incomplete, lambda: (job.id for job in context.jobs(ctx, Find(newest=True, limit=_LATEST))))


def complete_queues(ctx: typer.Context, incomplete: str) -> list[str]:
    """The queues that have jobs."""

    def queues() -> Iterable[str]:
        with context.connect(ctx) as client:
            return client.overview().counts

    return _matching(incomplete, queues)


def _matching(incomplete: str, words: Callable[[], Iterable[str]]) -> list[str]:
    """The words that begin like this; none where the queue cannot be reached: a shell has no place for an error."""
    try:
        return [word for word in words() if word.startswith(incomplete)]
    except (AqueueError, OSError):
        return []
