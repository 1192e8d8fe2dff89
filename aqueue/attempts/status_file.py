"""The file that the shells of one worker slot append their status lines to."""

import os
from pathlib import Path

_OPEN = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_LATEST = 4096
"""The bytes at the end of the file that hold all about the latest attempt."""
_ATTEMPTS = 1000
"""After so many attempts the file is emptied."""


class StatusFile:
    """A slot runs one attempt after the other, so the latest lines are those of its latest attempt."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError`."""
        self._fd = os.open(path, _OPEN, 0o600)
        self._attempts = 0

    def for_next_attempt(self) -> int:
        """The descriptor for the next attempt's shell. Raises `OSError`.

        What earlier attempts left here may go: their results were stored before the slot claimed its next job.
        """
        self._attempts += 1
        if self._attempts % _ATTEMPTS == 0:
            os.ftruncate(self._fd, 0)
        return self._fd

    def latest(self) -> str:
        """What the shell of the latest attempt has written."""
        size = os.fstat(self._fd).st_size
        return os.pread(self._fd, _LATEST, max(0, size - _LATEST)).decode("utf-8", "replace")

    def close(self) -> None:
        """Close the descriptor; the file stays."""
        os.close(self._fd)
