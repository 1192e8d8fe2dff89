"""Files and directories: when they are durable, who may enter them, who else has them open."""

import fcntl
import os
import shlex
import signal
import stat
import sys
from pathlib import Path

from aqueue.errors import StoreError


def fdatasync(fd: int) -> None:
    """Return once the data of `fd` is on stable storage. Raises `OSError`."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # a plain fsync stops at the drive's cache there
    else:
        os.fdatasync(fd)


def sync_directory(path: Path) -> None:
    """Make renames and new names in the directory durable. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_open_only_here(fd: int) -> bool:
    """Whether it is certain that nobody else has the file of `fd` open: only then does Linux grant a write lease."""
    if sys.platform != "linux":
        return False
    try:
        # A process that opens the file during the lease makes the kernel send this signal: SIGIO would end us.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def ensure_private_directory(path: Path) -> None:
    """Make sure that `path` is a directory of this user's in which nobody else can write; create it if it is missing.

    Raises `StoreError` with what is wrong and the command that mends it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.stat()
    except OSError as error:
        raise StoreError(f"cannot use {path} as a store: {error.strerror}") from error
    if info.st_uid != os.getuid():
        raise StoreError(f"{path} belongs to another user (uid {info.st_uid}): choose another store")
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreError(f"others can write in {path}, and so run commands as you: chmod 700 {shlex.quote(str(path))}")
