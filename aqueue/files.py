"""The files that attempts leave behind: what they printed, and how they ended.

Output files are named by the job's sequence number and the attempt, never by an id. Exit statuses are lines
`TOKEN STATUS` in one small file per worker slot of a pool, written by the command's outer shell.
"""

import os
from pathlib import Path

from aqueue.job import Job

READ = os.O_RDONLY | os.O_CLOEXEC
CREATE = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_APPEND = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
STATUS_TAIL = 4096


class Files:
    """Where the attempts of a store leave their output and their exit status."""

    def __init__(self, store: Path, output_limit: int) -> None:
        """`output_limit` is how many bytes of each output the record gets."""
        self.output = store / "output"
        self.status = store / "status"
        self.limit = output_limit
        for folder in (self.output, self.status):
            folder.mkdir(mode=0o700, exist_ok=True)

    def output_path(self, seq: int, attempt: int, stream: str) -> Path:
        """The file with the output of an attempt (1 is the first); `stream` is `out` or `err`."""
        return self.output / f"{seq}-{attempt}.{stream}"

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

    def drop_statuses(self, keep: frozenset[str] = frozenset()) -> None:
        """Remove the status files of pools that are gone, but those of the runs in `keep`."""
        for path in self.status.iterdir():
            if path.name.split(".")[0] not in keep:
                path.unlink(missing_ok=True)

    def _status_path(self, run: str, slot: int) -> Path:
        return self.status / f"{run}.{slot}"

    def remove_output(self, job: Job) -> None:
        """Remove what the attempts of `job` printed."""
        for attempt in range(1, len(job.history) + 1):
            for stream in ("out", "err"):
                self.output_path(job.seq, attempt, stream).unlink(missing_ok=True)

    def peek(self, job: Job, stream: str) -> str:
        """The last `limit` bytes of what the latest attempt has printed so far."""
        return self._tail(self.output_path(job.seq, len(job.history), stream))[1]

    def take(self, job: Job, stream: str, *, keep: bool) -> str:
        """What the latest attempt printed: whole, or its last `limit` bytes. A file that says no more than
        the record is removed, unless `keep`: then only an empty one is."""
        path = self.output_path(job.seq, len(job.history), stream)
        size, text = self._tail(path)
        if size == 0 or (size <= self.limit and not keep and "\N{REPLACEMENT CHARACTER}" not in text):
            path.unlink(missing_ok=True)
        return text

    def _tail(self, path: Path) -> tuple[int, str]:
        """A file's size in bytes, and its last `limit` bytes as text."""
        try:
            fd = os.open(path, READ)
        except OSError:
            return 0, ""
        try:
            size = os.fstat(fd).st_size
            data = os.pread(fd, self.limit, max(0, size - self.limit)) if size else b""
            return size, data.decode("utf-8", "replace")
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
