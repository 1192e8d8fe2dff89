"""Batches that come in several messages, put together again and checked on the way."""

from msgspec.structs import replace

from aqueue.control.requests import Enqueue, Import, Request
from aqueue.errors import AqueueError, InvalidRequest
from aqueue.jobs.job import Job
from aqueue.jobs.lifecycle import check_importable
from aqueue.jobs.spec import NewJob

JOBS_PER_BATCH = 2_000_000
"""How many jobs one batch may have: they are held in memory until its last message has come."""


class BatchAssembler:
    """The batches of one client, as far as they have come."""

    def __init__(self) -> None:
        self._specs: list[NewJob] = []
        self._jobs: list[Job] = []
        self._refused = False
        """Whether what still comes belongs to a batch that was refused already."""

    def add(self, request: Request) -> Request | None:
        """The whole request that this one completes, which is itself where it is no part of a batch; None while more
        is to come.

        Raises `InvalidJob`, `InvalidRequest` for a bad part. Its batch is dropped then, and so is what still comes of
        it: it has had its answer.
        """
        if not isinstance(request, Enqueue | Import):
            return request
        if self._refused:
            self._refused = request.more
            return None
        try:
            self._collect(request)
        except AqueueError:
            self._specs, self._jobs = [], []
            self._refused = request.more
            raise
        return None if request.more else self._whole(request)

    def _collect(self, part: Enqueue | Import) -> None:
        if isinstance(part, Enqueue):
            for spec in part.specs:
                spec.validate()
            self._specs += part.specs
        else:
            for job in part.jobs:
                check_importable(job)
            self._jobs += part.jobs
        if len(self._specs) + len(self._jobs) > JOBS_PER_BATCH:
            raise InvalidRequest(f"more than {JOBS_PER_BATCH} jobs in one batch: split it")

    def _whole(self, last: Enqueue | Import) -> Request:
        specs, self._specs = self._specs, []
        jobs, self._jobs = self._jobs, []
        return replace(last, specs=specs) if isinstance(last, Enqueue) else replace(last, jobs=jobs)
