"""A durable job queue for shell commands, in one asyncio process.

    async with aqueue.Pool(store="queue", workers=8) as pool:
        job = await pool.enqueue("convert a.png a.webp", timeout=30)
        done = await pool.wait(job.id)
        print(done.state, done.exit_code, done.stdout)

`Pool` works, `connect` only asks; `Job` is what both answer with. What a user can cause is an `AqueueError`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aqueue.api.connection import Connection, connect
    from aqueue.api.enqueue_in import enqueue_in
    from aqueue.api.pool import Pool
    from aqueue.errors import (
        AqueueError,
        DamagedStore,
        DuplicateJob,
        InvalidConfig,
        InvalidJob,
        InvalidRequest,
        PoolGone,
        PoolRunning,
        StoreError,
        UnknownJob,
        WaitTimeout,
    )
    from aqueue.jobs.job import Attempt, Job, State
    from aqueue.jobs.spec import JobSpec
    from aqueue.settings.config import Config

__version__ = "0.1.0"

_HOME = {
    "aqueue.api.pool": ("Pool",),
    "aqueue.api.connection": ("Connection", "connect"),
    "aqueue.settings.config": ("Config",),
    "aqueue.errors": (
        "AqueueError",
        "DamagedStore",
        "DuplicateJob",
        "InvalidConfig",
        "InvalidJob",
        "InvalidRequest",
        "PoolGone",
        "PoolRunning",
        "StoreError",
        "UnknownJob",
        "WaitTimeout",
    ),
    "aqueue.jobs.job": ("Attempt", "Job", "State"),
    "aqueue.jobs.spec": ("JobSpec",),
    "aqueue.api.enqueue_in": ("enqueue_in",),
}

__all__ = [
    "AqueueError",
    "Attempt",
    "Config",
    "Connection",
    "DamagedStore",
    "DuplicateJob",
    "InvalidConfig",
    "InvalidJob",
    "InvalidRequest",
    "Job",
    "JobSpec",
    "Pool",
    "PoolGone",
    "PoolRunning",
    "State",
    "StoreError",
    "UnknownJob",
    "WaitTimeout",
    "connect",
    "enqueue_in",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: a short command must not import an event loop."""
    from importlib import import_module

    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
