"""The files that attempts leave behind: what their commands printed, and how they ended.

Output files are named by the job's sequence number and the attempt, never by an id; one that stayed empty is reused by
a later attempt. Exit statuses are in one small file per worker slot of a pool, as `aqueue.attempts.shell` describes.
"""

import contextlib
import os
from collections import deque
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from aqueue import layout
from aqueue.attempts import shell
from aqueue.attempts.shell import StatusReport
from aqueue.attempts.status_file import StatusFile
from aqueue.attempts.token import Token
from aqueue.errors import StoreError
from aqueue.jobs.job import Job
from aqueue.system import is_open_only_here

_READ = os.O_RDONLY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE = os.O_CREAT | os.O_TRUNC | _WRITE
_APPEND = os.O_APPEND | _WRITE
_MOST_SPARE = 64


class FoundStatus(NamedTuple):
    """What a pool that is gone has left about the end of an attempt."""

    report: StatusReport
    written_at: datetime | None
    """When the last line of the file was written: it is the slot's last attempt's. None if there is no file."""


class AttemptFiles:
    """Where the attempts of a store leave their output and their exit statuses."""

    def __init__(self, store: Path, output_limit: int) -> None:
        """`output_limit` is how many bytes of each output the record gets. Raises `StoreError`."""
        self.output = store / layout.OUTPUT
        self._output_prefix = f"{self.output}/"
        self.status = store / layout.STATUS
        self.limit = output_limit
        self._spare: deque[str] = deque()
        """Empty files of earlier attempts for new ones: creating and removing one for each attempt is expensive."""
        try:
            for folder in (self.output, self.status):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {folder}: {error.strerror}") from error

    # Output

    def output_path(self, seq: int, attempt: int, stream: str) -> str:
        """The file with the output of an attempt; see `output_name`."""
        return self._output_prefix + output_name(seq, attempt, stream)

    def create_output(self, job: Job, stream: str) -> int:
        """A descriptor of the new, empty file for what the latest attempt of `job` prints. Raises `OSError`."""
        path = self.output_path(job.seq, len(job.history), stream)
        while self._spare:
            fd = _reused(self._spare.popleft(), path)
            if fd is not None:
                return fd
        return os.open(path, _CREATE, 0o600)

    def tail(self, job: Job, stream: str) -> str:
        """The last `limit` bytes of what the latest attempt has printed so far; nothing if there is no file."""
        try:
            fd = os.open(self.output_path(job.seq, len(job.history), stream), _READ)
        except OSError:
            return ""
        try:
            size = os.fstat(fd).st_size
            data = os.pread(fd, self.limit, max(0, size - self.limit)) if size else b""
            return data.decode("utf-8", "replace")
        finally:
            os.close(fd)

    def remove_output(self, job: Job) -> None:
        """Remove what the attempts of `job` printed."""
        for attempt in range(1, len(job.history) + 1):
            for stream in ("out", "err"):
                _remove(self.output_path(job.seq, attempt, stream))

    def remove_redundant(self, job: Job) -> None:
        """Remove the files of the latest attempt that say no more than the record, once the record is durable: after
        a success all that fit in, else only empty ones."""
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
        """Remove the spare files."""
        while self._spare:
            _remove(self._spare.popleft())

    # Exit statuses

    def open_status(self, run: str, slot: int) -> StatusFile:
        """The file for the exit statuses of worker `slot` of pool `run`. Raises `OSError`."""
        return StatusFile(self._status_path(run, slot))

    def find_status(self, token: str) -> FoundStatus:
        """What was written about the end of the attempt `token`."""
        attempt = self.known(token)
        if attempt is None:
            return FoundStatus(StatusReport(), None)
        path = self._status_path(attempt.run, attempt.slot)
        report = shell.parse_status(path.read_text("utf-8", "replace"), token)
        return FoundStatus(report, datetime.fromtimestamp(path.stat().st_mtime, UTC))

    def mark_interrupted(self, token: str) -> None:
        """Note that the attempt `token` is about to be ended, for whoever finds out later how it ended."""
        attempt = self.known(token)
        if attempt is not None:
            with contextlib.suppress(OSError):
                fd = os.open(self._status_path(attempt.run, attempt.slot), _APPEND)
                try:
                    os.write(fd, shell.interruption_line(token).encode())
                finally:
                    os.close(fd)

    def known(self, token: str) -> Token | None:
        """The attempt that `token` names, if it is one of this store; else None."""
        attempt = Token.parse(token)
        return attempt if attempt and self._status_path(attempt.run, attempt.slot).exists() else None

    def reported_tokens(self) -> list[Token]:
        """The attempts whose exit status pools have left behind."""
        texts = (path.read_text("utf-8", "replace") for path in self.status.iterdir())
        return [token for text in texts for token in shell.reported_tokens(text)]

    def runs(self) -> set[str]:
        """The pools that have left exit statuses behind."""
        return {path.name.partition(".")[0] for path in self.status.iterdir()}

    def remove_statuses(self, runs: Collection[str]) -> None:
        """Remove the status files of pools all of whose results are stored."""
        for path in self.status.iterdir():
            if path.name.partition(".")[0] in runs:
                path.unlink(missing_ok=True)

    def _status_path(self, run: str, slot: int) -> Path:
        return self.status / f"{run}.{slot}"


def output_name(seq: int, attempt: int, stream: str) -> str:
    """The name of the file with the output of an attempt (1 is the first); `stream` is `out` or `err`."""
    return f"{seq}-{attempt}.{stream}"


def _reused(spare: str, path: str) -> int | None:
    """A descriptor of the file `spare`, renamed to `path`; None if it is not empty any more, or if somebody else still
    has it, open or under another name."""
    try:
        os.rename(spare, path)  # from now on nobody opens it by its old name
        fd = os.open(path, _WRITE)
    except FileNotFoundError:  # its job was removed
        return None
    info = os.fstat(fd)
    if info.st_size == 0 and info.st_nlink == 1 and is_open_only_here(fd):
        return fd
    os.close(fd)
    os.unlink(path)
    return None


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
