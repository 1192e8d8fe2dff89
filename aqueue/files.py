"""The files that attempts leave behind: what they printed, and how they ended.

Output files are named by the job's sequence number and the attempt, never by an id. Exit statuses are lines
`TOKEN STATUS` in one small file per worker slot of a pool, written by the command's outer shell.
"""

import contextlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from aqueue.errors import StoreError
from aqueue.job import Job

READ = os.O_RDONLY | os.O_CLOEXEC
CREATE = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_APPEND = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
STATUS_TAIL = 4096
_STATUS_LINE = re.compile(r"[0-9a-f]+\.\d+\.\d+-\d+ \d+", re.ASCII)


class Files:
    """Where the attempts of a store leave their output and their exit status."""

    def __init__(self, store: Path, output_limit: int) -> None:
        """`output_limit` is how many bytes of each output the record gets. Raises `StoreError`."""
        self.output = store / "output"
        self._output_prefix = f"{self.output}/"
        self.status = store / "status"
        self.limit = output_limit
        try:
            for folder in (self.output, self.status):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {folder}: {error.strerror}") from error

    def output_path(self, seq: int, attempt: int, stream: str) -> str:
        """The file with the output of an attempt (1 is the first); `stream` is `out` or `err`."""
        return f"{self._output_prefix}{seq}-{attempt}.{stream}"

    def open_status(self, run: str, slot: int) -> int:
        """A descriptor of the file to which worker `slot` of pool `run` has its exit statuses written."""
        return os.open(self._status_path(run, slot), _APPEND, 0o600)

    def find_status(self, token: str) -> tuple[int | None, str]:
        """What the shell of the attempt `token` wrote of its end: see `parse_status`."""
        run, slot, _ = token.split(".", 2)
        try:
            text = self._status_path(run, int(slot)).read_text("utf-8", "replace")
        except FileNotFoundError:
            return None, ""
        return parse_status(text, token)

    def status_time(self, token: str) -> datetime:
        """When the last line of the file with the status of `token` was written: it is the slot's last attempt's."""
        run, slot, _ = token.split(".", 2)
        return datetime.fromtimestamp(self._status_path(run, int(slot)).stat().st_mtime, UTC)

    def has_statuses(self) -> bool:
        """Whether a pool has left exit statuses behind."""
        return any(self.status.iterdir())

    def tokens(self) -> list[str]:
        """The attempts whose exit status pools have left behind."""
        lines = [line for path in self.status.iterdir() for line in path.read_text("utf-8", "replace").splitlines()]
        return [line.rpartition(" ")[0] for line in lines if _STATUS_LINE.fullmatch(line)]

    def knows(self, token: str) -> bool:
        """Whether `token` is that of an attempt of this store."""
        run, _, rest = token.partition(".")
        slot = rest.partition(".")[0]
        return slot.isdigit() and self._status_path(run, int(slot)).exists()

    def drop_statuses(self, keep: frozenset[str] = frozenset()) -> None:
        """Remove the status files of pools that are gone, but those of the runs in `keep`."""
        for path in self.status.iterdir():
            if path.name.split(".")[0] not in keep:
                path.unlink(missing_ok=True)

    def drop_run(self, run: str) -> None:
        """Remove the status files of pool `run`, all of whose results are stored."""
        for path in self.status.glob(f"{run}.*"):
            path.unlink(missing_ok=True)

    def _status_path(self, run: str, slot: int) -> Path:
        return self.status / f"{run}.{slot}"

    def remove_output(self, job: Job) -> None:
        """Remove what the attempts of `job` printed."""
        for attempt in range(1, len(job.history) + 1):
            for stream in ("out", "err"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.output_path(job.seq, attempt, stream))

    def peek(self, job: Job, stream: str) -> str:
        """The last `limit` bytes of what the latest attempt has printed so far."""
        return self._tail(self.output_path(job.seq, len(job.history), stream))

    def tidy(self, job: Job) -> None:
        """Remove the files of an attempt that say no more than the record, once the record is durable: all of a
        success that fits in, else only empty ones."""
        latest = job.latest
        if latest is None or latest.finished_at is None:
            return
        success = latest.exit_code == 0 and latest.error is None
        for stream, text in (("out", job.stdout), ("err", job.stderr)):
            whole = text is not None and len(text.encode()) < self.limit and "\N{REPLACEMENT CHARACTER}" not in text
            if whole and (success or not text):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.output_path(job.seq, len(job.history), stream))

    def _tail(self, path: str) -> str:
        """A file's last `limit` bytes as text; nothing if there is no file."""
        try:
            fd = os.open(path, READ)
        except OSError:
            return ""
        try:
            size = os.fstat(fd).st_size
            data = os.pread(fd, self.limit, max(0, size - self.limit)) if size else b""
            return data.decode("utf-8", "replace")
        finally:
            os.close(fd)


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
        remark = "" if name.count(".") == 2 and status.isdigit() else line
    return None, remark
