"""An application's connection, for what aqueue does within its transaction.

What cursors and rows are on it is the application's business, and other tasks of it may be using it: so nothing is
set on it, and statements get cursors of our own.
"""

from collections.abc import Sequence
from typing import Any, LiteralString, cast

from psycopg import AsyncCursor
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, tuple_row

from aqueue.store.postgres.connection import Connection


async def begin(connection: Connection) -> None:
    """Begin the transaction that psycopg begins with the first statement, unless one is open: the first block of
    `connection.transaction()` would not be within it, but commit by itself."""
    if not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        await AsyncCursor(connection).execute("SELECT 1")


def plain(connection: Connection) -> Connection:
    """The same connection, as far as `adding` asks it, with psycopg's own cursors and rows."""
    return cast("Connection", _Plain(connection))


class _Plain:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def cursor(self, **_: Any) -> AsyncCursor[TupleRow]:
        return AsyncCursor(self._connection, row_factory=tuple_row)

    async def execute(self, statement: LiteralString, values: Sequence[object]) -> AsyncCursor[TupleRow]:
        return await self.cursor().execute(statement, values)
