"""A durable job queue for shell commands, in one asyncio process.

    async with aqueue.Pool(store="queue", workers=8) as pool:
        job = await pool.enqueue("convert a.png a.webp", timeout=30)
        done = await pool.wait(job.id)
        print(done.state, done.exit_code, done.stdout)

`Pool` works, `connect` only asks: both are a `Queue`. They answer with `Job`s, and `status()` with an `Overview`.
What a user can cause is an `AqueueError`.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from aqueue.api.connection import Connection, connect
    from aqueue.api.enqueue_in import enqueue_in
    from aqueue.api.pool import Pool
    from aqueue.api.queue import Queue
    from aqueue.control.requests import Overview, Slot
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
    from aqueue.store.pool_info import PoolInfo
else:
    # The same once more, for programs: a name is loaded when it is first used, because a short command must not
    # import an event loop. A test holds the two and `__all__` together.
    _MODULES = {
        "aqueue.api.connection": ("Connection", "connect"),
        "aqueue.api.enqueue_in": ("enqueue_in",),
        "aqueue.api.pool": ("Pool",),
        "aqueue.api.queue": ("Queue",),
        "aqueue.control.requests": ("Overview", "Slot"),
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
        "aqueue.settings.config": ("Config",),
        "aqueue.store.pool_info": ("PoolInfo",),
    }

    def __getattr__(name):
        from importlib import import_module

        for module, names in _MODULES.items():
            if name in names:
                return getattr(import_module(module), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    "Overview",
    "Pool",
    "PoolGone",
    "PoolInfo",
    "PoolRunning",
    "Queue",
    "Slot",
    "State",
    "StoreError",
    "UnknownJob",
    "WaitTimeout",
    "connect",
    "enqueue_in",
]
