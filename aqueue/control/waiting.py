"""Waiting for jobs from outside the pool, also while none runs, and from one pool to the next."""

import time
from collections.abc import Iterator, Sequence

from aqueue.control.client import Client
from aqueue.control.requests import Find, Get, Request, Wait
from aqueue.errors import PoolGone, WaitTimeout
from aqueue.jobs.job import FINAL_STATES, Job, State

POLL_INTERVAL = 0.2
"""Seconds between looks for a pool, while there is none."""


def wait_for_jobs(client: Client, ids: Sequence[str], timeout: float | None = None) -> Iterator[Job]:
    """Each of the jobs once it has ended; with no ids all that are unfinished now. `timeout` in seconds.

    Also while no pool runs: then the jobs end when a pool has come and done the work. Raises `WaitTimeout`,
    `UnknownJob`.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    left = dict.fromkeys(ids or _unfinished(client, deadline))
    while left:
        try:
            for job in _ended(client, list(left), deadline):
                left.pop(job.id, None)
                yield job
            if left:
                _pause(deadline)
        except PoolGone:
            continue
        except TimeoutError:
            raise WaitTimeout(f"job {next(iter(left))} has not ended after {timeout:g} s") from None


def _ended(client: Client, ids: list[str], deadline: float | None) -> Iterator[Job]:
    """Those of the jobs that have ended, or end while the pool that runs now does."""
    request: Request = Wait(ids) if client.config.shared or client.connect(deadline) else Get(ids)
    return (job for job in client.jobs(request, deadline) if job.state.final)


def _unfinished(client: Client, deadline: float | None) -> list[str]:
    find = Find(states=[state for state in State if state not in FINAL_STATES])
    try:
        return [job.id for job in client.jobs(find, deadline)]
    except TimeoutError:
        raise WaitTimeout(f"the queue of {client.folder} does not answer") from None


def _pause(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise TimeoutError
    time.sleep(POLL_INTERVAL)
