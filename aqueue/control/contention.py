"""Two processes that want the same store: one holds its lock, the other polls until it can go on.

The holder is a pool, which will open its socket, or a command, which will release the lock soon.
"""

import os
from pathlib import Path

from aqueue import layout
from aqueue.errors import PoolRunning
from aqueue.system import try_lock

POLL_INTERVAL = 0.01
"""Seconds between two looks at a lock or a socket."""
TIMEOUT = 60.0
"""Seconds in which the holder of a lock must either open its socket or release the lock."""


def is_released(folder: Path) -> bool:
    """Whether nobody holds the lock of a store at the moment."""
    lock = try_lock(folder / layout.LOCK)
    if lock is None:
        return False
    os.close(lock)
    return True


def unresponsive(folder: Path) -> PoolRunning:
    """The error for a holder that does neither in time."""
    return PoolRunning(f"another process holds the store {folder} and does not answer")
