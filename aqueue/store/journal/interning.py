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
_QUEUE, _TIMEOUT = _DEFAULTS["queue"], _DEFAULTS["timeout"]
_BASE, _MAX, _JITTER = (_DEFAULTS[name] for name in ("backoff_base", "backoff_max", "backoff_jitter"))


class Interner:
    """The values of the jobs that were passed to it."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Hashable] = {}
        self._created_at: datetime | None = None

    def intern(self, job: Job) -> None:
        """Replace values of `job` by equal ones that an earlier job has, or that are defaults. Nobody else may have
        seen it yet. (Opening a store does this for each of its jobs, so it is written for speed.)"""
        if job.created_at == self._created_at:  # as are all of a batch
            force_setattr(job, "created_at", self._created_at)
        else:
            self._created_at = job.created_at
        if job.cwd is not None:
            self._share(job, "cwd", job.cwd)
        if job.queue is not _QUEUE:
            self._share(job, "queue", job.queue)
        if job.tags:
            self._share(job, "tags", job.tags)
        if (
            job.backoff_base is not _BASE
            or job.backoff_max is not _MAX
            or job.backoff_jitter is not _JITTER
            or job.timeout is not _TIMEOUT
        ):
            for name in ("backoff_base", "backoff_max", "backoff_jitter", "timeout"):
                self._share(job, name, getattr(job, name))

    def _share(self, job: Job, name: str, value: Hashable) -> None:
        default = _DEFAULTS[name]
        if value == default:
            force_setattr(job, name, default)
            return
        if len(self._values) > _MAX_VALUES:
            self._values.clear()
        force_setattr(job, name, self._values.setdefault(value, value))
