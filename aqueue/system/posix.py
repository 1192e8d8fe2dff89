"""What only the operating system can answer, asked here and nowhere else.

Locks that die with their holder, process groups, the end of processes that are not our children, sockets
that only one user can reach. These are POSIX's answers, with the differences of Linux and macOS inside;
another platform is a second set of answers to the same questions.
"""

import contextlib
import fcntl
import os
import re
import resource
import select
import shlex
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from aqueue import layout
from aqueue.errors import StoreError
from aqueue.system import clock

_LONGEST_SOCKET_PATH = 100  # macOS takes 103 bytes, Linux 107
_SETTLE_SIGNALS = "HUP INT QUIT TERM USR1 USR2 ALRM"


def fdatasync(fd: int) -> None:
    """Return once the data of `fd` is on stable storage. Raises `OSError`."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # a plain fsync stops at the drive's cache there
    else:
        os.fdatasync(fd)


def sync_directory(path: Path) -> None:
    """Make renames and new names in the directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def nobody_else_has_open(fd: int) -> bool:
    """Whether it is certain that the file of `fd` is open nowhere else: only then does Linux grant a write lease."""
    if sys.platform != "linux":
        return False
    try:
        # Who opens the file in the moment of the lease makes the system send this signal: SIGIO would end the process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def private_directory(path: Path) -> None:
    """Make sure `path` is a directory that only its owner, this user, can enter; create it if missing.

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


def try_lock(path: Path) -> int | None:
    """Lock the file `path` and return its descriptor; None if another process holds it. Raises `StoreError`.

    The lock ends with the last copy of the descriptor, at the latest with its holder.
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
    """Hold the lock of a file, made if it is missing, for a block that may put another file in its place; wait for
    those who hold it. Raises `OSError`."""
    while True:
        with open(path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # else another came in its place meanwhile
                yield
                return


def shell_line(command: str, token: str) -> str:
    """The line for `sh -c` that runs `command` and appends its exit status to the file that is its stdin.

    The status is written by the outer shell, which outlives the pool. The command has a shell of its own, so
    that nothing in it (exec, exit, trap, `$$`, a syntax error) can evade that or mean something else than under
    `sh -c`; a command of plain words means the same in a subshell, which costs half as much, and a builtin that
    only tells or compares needs no process at all. A signal handler, unlike ignoring, is not inherited: a signal to
    the group ends the command as usual and leaves the outer shell to report it. What the shell remarks on a child
    that a signal killed goes to the same file.
    """
    return (
        f"exec 3>&2 2>&0;trap : {_SETTLE_SIGNALS};{_isolated(command)} </dev/null 2>&3 3>&-;"
        f's=$?;echo "{token} $s">&2;exit $s'
    )


class _Shell(str):
    """The shell's name as its `argv[0]`, which `subprocess` takes as it is, and its path as the file to execute,
    which `subprocess` encodes first. With a mere name it would try every directory of PATH, at each start."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"/bin/sh"


SHELL = _Shell("sh")
"""What runs `shell_line`; messages of the shell begin with this name."""

_SAFE = r"[A-Za-z0-9_./:@%+,-]"
_WORD = r"""(?:[A-Za-z0-9_./:@%+,=-]|'[^'\n\0]*'|"[^"$`\\!\n\0]*")+"""
_PLAIN = re.compile(rf"(?P<name>{_SAFE}+)(?: +{_WORD})*")
_RESERVED = ("if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac", "in")
_EXTENSIONS = ("function", "select", "time", "coproc")
_BUILTINS = (".", "source", "eval", "return", "break", "continue", "trap", "set", "shift", "alias", "unalias", "wait")
_NOT_PLAIN = frozenset((*_RESERVED, *_EXTENSIONS, *_BUILTINS, "times", "local"))
"""First words that are shell language, or whose meaning depends on which shell they run in."""
_TELLING = frozenset(("true", "false", "echo", "printf", "pwd", "test"))
"""Builtins that leave the shell which runs them as it was."""


def _isolated(command: str) -> str:
    """`command` in as much of a shell of its own as it takes; none of the forms is confused by a redirection
    behind it. Of plain words, the shell knows only where they end: they are a program and its arguments."""
    plain = _PLAIN.fullmatch(command)
    if plain is None or plain["name"] in _NOT_PLAIN:
        return f"(exec /bin/sh -c {shlex.quote(command)} sh)"
    return command if plain["name"] in _TELLING else f"({command})"


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; False if there is none."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so of a group that holds only a zombie
        return sys.platform != "darwin"
    return True


TERMINATE: int = signal.SIGTERM
KILL: int = signal.SIGKILL


def exit_descriptor(pid: int) -> int:
    """A descriptor that becomes readable when process `pid`, which need not be a child, ends.

    Raises `ProcessLookupError` if there is none.
    """
    if sys.platform == "linux":
        return os.pidfd_open(pid)
    queue = select.kqueue()
    fd = os.dup(queue.fileno())
    event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
    try:
        queue.control([event], 0)
    except OSError as error:
        os.close(fd)
        raise ProcessLookupError(pid) from error
    finally:
        queue.close()
    return fd


def process_age(pid: int) -> float:
    """The seconds since process `pid` was started, whatever the wall clock was set to meanwhile; 0 if it is gone."""
    if sys.platform != "linux":
        import psutil  # here, because a short command pays for every import

        try:
            return time.time() - psutil.Process(pid).create_time()
        except psutil.Error:
            return 0.0
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return clock.monotonic() - started


def allow_descriptors(count: int) -> None:
    """Let this process open `count` files, as far as it may. No more: commands inherit the limit, and some
    close every descriptor up to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        count = min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < count:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def socket_path(store: Path) -> Path:
    """Where the pool on `store` listens: in the store, or, where that path is too long for a socket, in
    a private directory of the user's among the temporary files."""
    inside = store / layout.SOCKET
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_PATH:
        return inside
    import hashlib  # here, because a short command pays for every import

    # Not `TMPDIR`: the pool's terminal and another may have different ones.
    name = hashlib.sha256(os.fsencode(store)).hexdigest()[:24]
    return Path("/tmp") / f"aqueue-{os.getuid()}" / name


def listen(path: Path) -> socket.socket:
    """A listening socket at `path` that only this user can connect to; a stale one is replaced."""
    private_directory(path.parent)
    path.unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _umask(0o177):
            door.bind(str(path))
        door.listen(512)
        door.setblocking(False)
    except BaseException:
        door.close()
        raise
    return door


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def connect(path: Path) -> socket.socket | None:
    """A connection to the pool that listens at `path`; None if nobody does."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        line.close()
        return None
    except OSError:
        line.close()
        raise
    return line


def same_user(line: socket.socket) -> bool:
    """Whether the process at the other end of the connection is this user's."""
    if sys.platform == "linux":
        credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        uid = struct.unpack("3i", credentials)[1]
    else:  # LOCAL_PEERCRED: struct xucred { u_int version; uid_t uid; ... }
        uid = struct.unpack("2I", line.getsockopt(0, 1, 8))[1]
    return bool(uid == os.getuid())
