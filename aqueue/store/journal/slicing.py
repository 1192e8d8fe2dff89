"""Long work in slices: everything that a request can make long gives the event loop its turn in between."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

SLICE = 500
"""How many jobs are dealt with before others get their turn."""


def slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items, one slice at a time."""
    for start in range(0, len(items), SLICE):
        yield items[start : start + SLICE]
