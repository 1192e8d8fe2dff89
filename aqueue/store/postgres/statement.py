"""A statement and how the rows of its result are decoded: by name, in one place.

The fields of a row class *are* the columns that are selected (`columns`), so the two cannot differ.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec
from psycopg import AsyncCursor
from psycopg.rows import args_row, tuple_row

from aqueue.store.postgres.connection import Connection

R_co = TypeVar("R_co", covariant=True)
Parameters = Mapping[str, object] | Sequence[object]

_EXPRESSIONS = {"record": "record::text", "info": "info::text"}
"""Columns that are selected as something else: msgspec decodes JSON faster than psycopg."""


def columns(row: type[msgspec.Struct]) -> str:
    """The columns of a row class as a SELECT list."""
    return ", ".join(_EXPRESSIONS.get(name, name) for name in row.__struct_fields__)


class Statement(Generic[R_co]):
    """SQL with psycopg's placeholders."""

    def __init__(self, text: str, row: Callable[..., R_co]) -> None:
        """`row` makes a row from the values of its columns."""
        self.text = text
        self.row = row

    async def fetch(self, connection: Connection, parameters: Parameters = ()) -> list[R_co]:
        """All rows. Raises `psycopg.Error`."""
        # A cursor of our own: an application's connection may make cursors and rows of another kind.
        cursor = AsyncCursor(connection, row_factory=args_row(self.row))
        await cursor.execute(self.text, parameters)
        return await cursor.fetchall()

    async def fetch_one(self, connection: Connection, parameters: Parameters = ()) -> R_co | None:
        """The first row, if there is one. Raises `psycopg.Error`."""
        rows = await self.fetch(connection, parameters)
        return rows[0] if rows else None


async def execute(connection: Connection, text: str, parameters: Parameters = ()) -> None:
    """Execute a statement whose rows, if it has any, do not matter. Raises `psycopg.Error`."""
    await AsyncCursor(connection, row_factory=tuple_row).execute(text, parameters)
