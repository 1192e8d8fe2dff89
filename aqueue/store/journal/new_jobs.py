"""New jobs, made of what was asked for."""

import asyncio
from collections import deque
from collections.abc import Container, Iterable

from aqueue.jobs import lifecycle
from aqueue.jobs.job import Job, utc_now
from aqueue.jobs.spec import NewJob
from aqueue.store.ids import Ids, Reservation
from aqueue.store.journal.interning import Interner
from aqueue.store.journal.slicing import SLICE


async def collect(specs: Iterable[NewJob]) -> tuple[deque[NewJob], list[str]]:
    """The specs, and the ids that were chosen for some of them."""
    collected = deque[NewJob]()
    chosen = []
    for spec in specs:
        collected.append(spec)
        if spec.id is not None:
            chosen.append(spec.id)
        if len(collected) % SLICE == 0:
            await asyncio.sleep(0)
    return collected, chosen


async def make_jobs(specs: deque[NewJob], ids: Ids, reserved: Reservation, existing: Container[str]) -> list[Job]:
    """A job of each spec, in order, except where the id is among the `existing` ones; generated ids are `reserved`.

    Each spec is dropped as soon as its job is made: of a million, there is no need for the memory of both.
    """
    now = utc_now()
    interner = Interner()
    jobs: list[Job] = []
    while specs:
        spec = specs.popleft()
        if spec.id is not None and spec.id in existing:
            continue
        seq = ids.take_seq()
        job_id = spec.id or ids.new_id(seq)
        if spec.id is None:
            reserved.add(job_id)
        job = lifecycle.new_job(spec, job_id=job_id, seq=seq, now=now)
        interner.intern(job)
        jobs.append(job)
        if len(jobs) % SLICE == 0:
            await asyncio.sleep(0)
    return jobs
