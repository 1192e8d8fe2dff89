"""The token of an attempt: its name among all the attempts that there ever were in a store.

It is in the environment of the attempt's command, in the command line of its shell, in the job's record and in the
status file, so that a later pool can tell which process, which record and which exit status belong together.
"""

import re
from typing import NamedTuple

_TOKEN = re.compile(r"(\w+)\.(\d+)\.(\d+)-(\d+)", re.ASCII)


class Token(NamedTuple):
    """`RUN.SLOT.SEQ-ATTEMPT` in parts. PostgreSQL's claim statement writes the same format."""

    run: str
    """The pool: every opening of a store has a name of its own."""
    slot: int
    """The worker slot of that pool."""
    seq: int
    """The job's sequence number."""
    attempt: int
    """1 is the job's first."""

    @classmethod
    def parse(cls, text: str) -> "Token | None":
        """The token that `text` is; None if it is something else."""
        match = _TOKEN.fullmatch(text)
        return None if match is None else cls(match[1], int(match[2]), int(match[3]), int(match[4]))

    def __str__(self) -> str:
        return f"{self.run}.{self.slot}.{self.seq}-{self.attempt}"
