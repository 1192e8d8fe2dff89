"""The control socket of a pool: where it is, and who may connect to it."""

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from aqueue import layout
from aqueue.system.posix.filesystem import ensure_private_directory

_LONGEST_PATH = 100
"""Bytes in the path of a socket: macOS takes 103, Linux 107."""


def control_socket_path(store: Path) -> Path:
    """Where the pool on `store` listens: in the store, or, if that path is too long for a socket, in a private
    directory of this user's among the temporary files."""
    inside = store / layout.SOCKET
    if len(os.fsencode(inside)) <= _LONGEST_PATH:
        return inside
    import hashlib  # here, because a short command pays for every import

    # Not `TMPDIR`: the pool's terminal and another may have different ones.
    name = hashlib.sha256(os.fsencode(store)).hexdigest()[:24]
    return Path("/tmp") / f"aqueue-{os.getuid()}" / name


def open_control_socket(path: Path) -> socket.socket:
    """A non-blocking listening socket at `path` that only this user can connect to; a stale one is replaced.

    Raises `OSError`, `StoreError`.
    """
    ensure_private_directory(path.parent)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _umask(0o177):
            listening.bind(str(path))
        listening.listen(512)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def connect_control_socket(path: Path) -> socket.socket | None:
    """A blocking connection to the pool that listens at `path`; None if no pool does. Raises `OSError`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError:
        connection.close()
        raise
    return connection


def is_same_user(connection: socket.socket) -> bool:
    """Whether the process at the other end of the connection is this user's."""
    if sys.platform == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        uid = struct.unpack("3i", credentials)[1]
    else:  # LOCAL_PEERCRED: struct xucred { u_int version; uid_t uid; ... }
        uid = struct.unpack("2I", connection.getsockopt(0, 1, 8))[1]
    return bool(uid == os.getuid())
