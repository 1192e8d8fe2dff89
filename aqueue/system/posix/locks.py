"""Locks on files, which the kernel releases when their holder dies."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from aqueue.errors import StoreError


def try_lock(path: Path) -> int | None:
    """Lock the file `path` and return its descriptor; None if another process holds the lock. Raises `StoreError`.

    The lock is released with the last copy of the descriptor, at the latest when its holder ends.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open {path}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError as error:
        os.close(fd)
        raise StoreError(f"cannot lock {path}: {error.strerror}") from error
    return fd


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file for a block that may replace the file; wait until it is free. Raises `OSError`.

    The file is created if it is missing.
    """
    while True:
        with open(path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # else somebody replaced it meanwhile
                yield
                return
