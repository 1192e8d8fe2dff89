"""Every error a user can meet, each with the exit status its command ends with.

A message says what happened, to what, and what to do next: the command line prints it as one line,
an application catches it by type.
"""

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding garbage as JSON raises."""


def printable(text: str) -> str:
    """`text` with control characters escaped, so that it cannot forge a line of a log or a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class AqueueError(Exception):
    """What all errors of aqueue have in common.

    `exit_code` is the exit status of the command line, `kind` the name an error has on the wire.
    """

    exit_code = 1

    @property
    def kind(self) -> str:
        return type(self).__name__


class InvalidJob(AqueueError):
    """A job as asked for cannot be: the message names the field and what is allowed."""

    exit_code = 2


class InvalidConfig(AqueueError):
    """A setting is unknown or out of range: the message names the place, the key and what is allowed."""

    exit_code = 2


class InvalidRequest(AqueueError):
    """A question that makes no sense to the queue, or not in the job's present state."""

    exit_code = 2


class DuplicateJob(AqueueError):
    """The id exists already, or was used once: ids are never used again."""

    exit_code = 3


class UnknownJob(AqueueError):
    """No job has this id."""

    exit_code = 4


class StoreError(AqueueError):
    """The store cannot be read or written; what was asked for did not happen."""

    exit_code = 5


class DamagedStore(StoreError):
    """The journal holds something that cannot be understood; nothing was changed."""


class PoolRunning(AqueueError):
    """Another pool owns the store."""

    exit_code = 6


class PoolGone(AqueueError):
    """The running pool went away before it answered."""

    exit_code = 7


class WaitTimeout(AqueueError):
    """What was waited for did not come in time."""

    exit_code = 124


BY_KIND: dict[str, type[AqueueError]] = {
    error.__name__: error
    for error in (
        AqueueError,
        InvalidJob,
        InvalidConfig,
        InvalidRequest,
        DuplicateJob,
        UnknownJob,
        StoreError,
        DamagedStore,
        PoolRunning,
        PoolGone,
        WaitTimeout,
    )
}
"""Errors by their name on the wire, for the side that raises them again."""
