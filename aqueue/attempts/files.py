"""The files that attempts leave behind: what they printed, and how they ended.

Output files are named by the job's sequence number and the attempt, never by an id; one that stayed
empty becomes that of a later attempt. Exit statuses are lines `TOKEN STATUS` in one small file per worker slot of a
pool, written by the command's outer shell.
"""

import contextlib
import os
import re
from collections import deque
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from aqueue import layout
from aqueue.errors import StoreError
from aqueue.jobs.job import Job
from aqueue.system import platform

_READ = os.O_RDONLY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE = os.O_CREAT | os.O_TRUNC | _WRITE
_APPEND = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_MARK = os.O_APPEND | _WRITE
STATUS_TAIL = 4096
_INTERRUPTED = "interrupted"
_MOST_SPARE = 64
_TOKEN = re.compile(r"(\w+)\.(\d+)\.(\d+)-(\d+)", re.ASCII)
_STATUS_LINE = re.compile(rf"{_TOKEN.pattern} \d+", re.ASCII)


class Token(NamedTuple):
    """The name of an attempt among all that there ever were in the store: `RUN.SLOT.SEQ-ATTEMPT`."""

    run: str
    """The pool's."""
    slot: int
    """The number of its worker."""
    seq: int
    """The job's."""
    attempt: int
    """1 is the first."""

    @classmethod
    def parse(cls, text: str) -> "Token | None":
        """The token that `text` is; None if it is something else."""
        match = _TOKEN.fullmatch(text)
        return None if match is None else cls(match[1], int(match[2]), int(match[3]), int(match[4]))

    def __str__(self) -> str:
        return f"{self.run}.{self.slot}.{self.seq}-{self.attempt}"


class Status(NamedTuple):
    """How an attempt ended: see `parse_status`."""

    code: int | None
    remark: str
    written_at: datetime | None
    """When the last line of the file was written: it is the slot's last attempt's."""
    interrupted: bool
    """Whether the attempt was ended by its pool, or in its place."""


class AttemptFiles:
    """Where the attempts of a store leave their output and their exit status."""

    def __init__(self, store: Path, output_limit: int) -> None:
        """`output_limit` is how many bytes of each output the record gets. Raises `StoreError`."""
        self.output = store / layout.OUTPUT
        self._output_prefix = f"{self.output}/"
        self.status = store / layout.STATUS
        self.limit = output_limit
        self._spare: deque[str] = deque()
        """Empty files that are not needed any more, for new ones: making and removing one for each attempt is dear."""
        try:
            for folder in (self.output, self.status):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {folder}: {error.strerror}") from error

    def output_path(self, seq: int, attempt: int, stream: str) -> str:
        """The file with the output of an attempt; see `output_name`."""
        return self._output_prefix + output_name(seq, attempt, stream)

    def create_output(self, job: Job, stream: str) -> int:
        """A descriptor of the new, empty file for what the latest attempt of `job` prints."""
        path = self.output_path(job.seq, len(job.history), stream)
        while self._spare:
            fd = _renewed(self._spare.popleft(), path)
            if fd is not None:
                return fd
        return os.open(path, _CREATE, 0o600)

    def open_status(self, run: str, slot: int) -> int:
        """A descriptor of the file to which worker `slot` of pool `run` has its exit statuses written."""
        return os.open(self._status_path(run, slot), _APPEND, 0o600)

    def find_status(self, token: str) -> Status:
        """What the shell of the attempt `token` wrote of its end."""
        attempt = self.known(token)
        if attempt is None:
            return Status(None, "", None, False)
        path = self._status_path(attempt.run, attempt.slot)
        text = path.read_text("utf-8", "replace")
        code, remark = parse_status(text, token)
        written_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return Status(code, remark, written_at, is_interrupted(text, token))

    def mark_interrupted(self, token: str) -> None:
        """Tell whoever reads how the attempt ended that it was not on its own account, as it is about to be."""
        attempt = self.known(token)
        if attempt is not None:
            with contextlib.suppress(OSError):
                fd = os.open(self._status_path(attempt.run, attempt.slot), _MARK)
                try:
                    os.write(fd, f"{token} {_INTERRUPTED}\n".encode())
                finally:
                    os.close(fd)

    def known(self, token: str) -> Token | None:
        """The attempt of this store that `token` names, if it does name one."""
        attempt = Token.parse(token)
        return attempt if attempt and self._status_path(attempt.run, attempt.slot).exists() else None

    def tokens(self) -> list[Token]:
        """The attempts whose exit status pools have left behind."""
        lines = [line for path in self.status.iterdir() for line in path.read_text("utf-8", "replace").splitlines()]
        found = [Token.parse(line.rpartition(" ")[0]) for line in lines if _STATUS_LINE.fullmatch(line)]
        return [token for token in found if token is not None]

    def runs(self) -> set[str]:
        """The pools that have left exit statuses behind."""
        return {path.name.partition(".")[0] for path in self.status.iterdir()}

    def drop_statuses(self, runs: Collection[str]) -> None:
        """Remove the status files of pools all of whose results are stored."""
        for path in self.status.iterdir():
            if path.name.partition(".")[0] in runs:
                path.unlink(missing_ok=True)

    def _status_path(self, run: str, slot: int) -> Path:
        return self.status / f"{run}.{slot}"

    def remove_output(self, job: Job) -> None:
        """Remove what the attempts of `job` printed."""
        for attempt in range(1, len(job.history) + 1):
            for stream in ("out", "err"):
                _remove(self.output_path(job.seq, attempt, stream))

    def peek(self, job: Job, stream: str) -> str:
        """The last `limit` bytes of what the latest attempt has printed so far."""
        return self._tail(self.output_path(job.seq, len(job.history), stream))

    def tidy(self, job: Job) -> None:
        """Let go of the files of an attempt that say no more than the record, once the record is durable: all of a
        success that fits in, else only empty ones."""
        latest = job.latest
        if latest is None or latest.finished_at is None:
            return
        success = latest.exit_code == 0 and latest.error is None
        for stream, text in (("out", job.stdout), ("err", job.stderr)):
            whole = text is not None and len(text.encode()) < self.limit and "\N{REPLACEMENT CHARACTER}" not in text
            if whole and (success or not text):
                path = self.output_path(job.seq, len(job.history), stream)
                if text or len(self._spare) == _MOST_SPARE:
                    _remove(path)
                else:
                    self._spare.append(path)

    def close(self) -> None:
        """Remove the files that were kept for new ones."""
        while self._spare:
            _remove(self._spare.popleft())

    def _tail(self, path: str) -> str:
        """A file's last `limit` bytes as text; nothing if there is no file."""
        try:
            fd = os.open(path, _READ)
        except OSError:
            return ""
        try:
            size = os.fstat(fd).st_size
            data = os.pread(fd, self.limit, max(0, size - self.limit)) if size else b""
            return data.decode("utf-8", "replace")
        finally:
            os.close(fd)


def output_name(seq: int, attempt: int, stream: str) -> str:
    """The name of the file with the output of an attempt (1 is the first); `stream` is `out` or `err`."""
    return f"{seq}-{attempt}.{stream}"


def _renewed(spare: str, path: str) -> int | None:
    """A descriptor of the file `spare`, which becomes `path`; None if it is not empty any more, or if somebody else
    still has it, open or under another name."""
    try:
        os.rename(spare, path)  # from now on, nobody comes to open it
        fd = os.open(path, _WRITE)
    except FileNotFoundError:  # its job was removed
        return None
    info = os.fstat(fd)
    if info.st_size == 0 and info.st_nlink == 1 and platform.nobody_else_has_open(fd):
        return fd
    os.close(fd)
    os.unlink(path)
    return None


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def parse_status(text: str, token: str) -> tuple[int | None, str]:
    """The exit status that a status file holds for `token`, and the shell's own remark on it.

    The remark is what the shell wrote just before: the name of the signal that ended the command, or why it
    could not start it. The status is None where the shell did not come to write one.
    """
    remark = ""
    for line in text.splitlines():
        name, _, status = line.rpartition(" ")
        if name == token and status.isdigit():
            return int(status), remark
        remark = "" if name.count(".") == 2 and (status.isdigit() or status == _INTERRUPTED) else line
    return None, remark


def is_interrupted(text: str, token: str) -> bool:
    """Whether a status file says that the attempt `token` was interrupted before it ended."""
    for line in text.splitlines():
        name, _, status = line.rpartition(" ")
        if name == token:
            return status == _INTERRUPTED
    return False
