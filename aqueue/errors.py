"""Every error a user can meet, each with the exit status its command ends with.

A message says what happened, to what, and what to do next: the command line prints it as one line, an application
catches it by its type.
"""

from collections.abc import Iterator

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding garbage as JSON raises."""


def printable(text: str) -> str:
    """`text` with control characters escaped, so that it cannot forge a line of a log or a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class AqueueError(Exception):
    """What all errors of aqueue have in common: `exit_code` is the exit status of a command that ends with it."""

    exit_code = 1

    @property
    def kind(self) -> str:
        """The name of the error in the protocol."""
        return type(self).__name__


class InvalidJob(AqueueError):
    """A job cannot be as it was given: the message names the field and what is allowed."""

    exit_code = 2


class InvalidConfig(AqueueError):
    """A setting is unknown or out of range: the message names the place, the key and what is allowed."""

    exit_code = 2


class InvalidRequest(AqueueError):
    """The queue cannot do what it was asked for, or not in the job's present state."""

    exit_code = 2


class DuplicateJob(AqueueError):
    """The id exists already, or was used once: ids are never used again."""

    exit_code = 3


class UnknownJob(AqueueError):
    """No job has this id."""

    exit_code = 4


class StoreError(AqueueError):
    """The store cannot be read or written; the request was not carried out."""

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
    """What was waited for did not happen in time."""

    exit_code = 124


def _with_subclasses(error: type[AqueueError]) -> Iterator[type[AqueueError]]:
    yield error
    for subclass in error.__subclasses__():
        yield from _with_subclasses(subclass)


BY_KIND = {error.__name__: error for error in _with_subclasses(AqueueError)}
"""Every error by its name in the protocol, for the side that raises it again."""
