"""Values that many jobs share, kept once: in memory they cost nothing then, and a default is not written either.

(msgspec leaves out a field whose value is the default object itself; a float that merely equals it is written.)
"""

from collections.abc import Hashable
from datetime import datetime

from msgspec.structs import fields, force_setattr

from aqueue.jobs.job import Job

_MAX_VALUES = 10_000
"""More different values than this are hardly shared."""
_DEFAULTS = {field.name: field.default for field in fields(Job)}
_QUEUE = _DEFAULTS["queue"]
_FLOATS = [(name, _DEFAULTS[name]) for name in ("backoff_base", "backoff_max", "backoff_jitter", "timeout")]


class Interner:
    """The values of the jobs that were passed to it."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Hashable] = {}
        self._created_at: datetime | None = None

    def intern(self, job: Job) -> None:
        """Replace values of `job` by equal ones that an earlier job has, or that are defaults. Nobody else may have
        seen it yet."""
        if len(self._values) > _MAX_VALUES:
            self._values.clear()
        share = self._values.setdefault
        if job.created_at == self._created_at:  # as are all of a batch
            force_setattr(job, "created_at", self._created_at)
        else:
            self._created_at = job.created_at
        if job.queue is not _QUEUE:
            force_setattr(job, "queue", _QUEUE if job.queue == _QUEUE else share(job.queue, job.queue))
        if job.cwd is not None:
            force_setattr(job, "cwd", share(job.cwd, job.cwd))
        if job.tags:
            force_setattr(job, "tags", share(job.tags, job.tags))
        for name, default in _FLOATS:
            value = getattr(job, name)
            if value is not default:
                force_setattr(job, name, default if value == default else share(value, value))
