"""Opening a journal: made if it is missing, and what a power cut has torn is cut off and kept beside the file."""

import os
import stat
import time
from pathlib import Path

from aqueue import layout
from aqueue.errors import DamagedStore
from aqueue.store.journal.contents import Contents
from aqueue.store.journal.reader import read_journal
from aqueue.store.journal.records import FORMAT, Header, encode
from aqueue.system import fdatasync, sync_directory

OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def open_journal(path: Path) -> tuple[int, Contents]:
    """Open the journal at `path`, making it if it is missing; return its descriptor, placed at its end, and
    what it holds. Raises `DamagedStore` if it is not whole, `OSError`."""
    fd = os.open(path, OPEN, 0o600)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise DamagedStore(f"{path} is not a regular file: move it away, or choose another store")
        if info.st_uid != os.getuid():
            raise DamagedStore(f"{path} belongs to another user (uid {info.st_uid}): choose another store")
        contents = read_journal(fd, path)
        if contents.end < info.st_size:
            contents.torn = _put_aside(fd, path, contents.end)
        os.lseek(fd, contents.end, os.SEEK_SET)
        if contents.end == 0:
            contents.end = write_all(fd, encode(Header(FORMAT)) + b"\n")
        if contents.lines <= 1:  # whoever made it may not have come to the end of this
            fdatasync(fd)
            for folder in path.parents[:2]:
                sync_directory(folder)
    except BaseException:
        os.close(fd)
        raise
    return fd, contents


def _put_aside(fd: int, path: Path, start: int) -> Path:
    """Keep what stands behind `start` in a file of its own, and cut it off."""
    aside = path.with_name(layout.torn_tail(time.time_ns()))
    copy = os.open(aside, OPEN | os.O_EXCL, 0o600)
    try:
        offset = start
        while data := os.pread(fd, 1 << 20, offset):
            write_all(copy, data)
            offset += len(data)
        fdatasync(copy)
    finally:
        os.close(copy)
    os.ftruncate(fd, start)
    fdatasync(fd)
    return aside


def write_all(fd: int, data: bytes) -> int:
    """Write all of `data`; return its length."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)
