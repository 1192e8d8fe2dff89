"""What only the operating system can answer, asked here and nowhere else.

Every question is named here, and this is the one place that picks a platform: the package `posix` holds the answers of
Linux and macOS, and another platform is another package that answers the same questions. `clock` asks about time.
"""

from aqueue.system.posix.control_socket import (
    connect_control_socket,
    control_socket_path,
    is_same_user,
    open_control_socket,
)
from aqueue.system.posix.filesystem import ensure_private_directory, fdatasync, is_open_only_here, sync_directory
from aqueue.system.posix.locks import locked, try_lock
from aqueue.system.posix.processes import (
    KILL,
    TERMINATE,
    process_age,
    raise_open_file_limit,
    signal_group,
    wait_for_exit,
)

__all__ = [
    "KILL",
    "TERMINATE",
    "connect_control_socket",
    "control_socket_path",
    "ensure_private_directory",
    "fdatasync",
    "is_open_only_here",
    "is_same_user",
    "locked",
    "open_control_socket",
    "process_age",
    "raise_open_file_limit",
    "signal_group",
    "sync_directory",
    "try_lock",
    "wait_for_exit",
]
