"""The version of the tables, and the migrations that bring them to the one that this program expects.

Each file of `migrations/` is a step from the version before; its number is the version that it makes. A step that was
released is never changed.
"""

from importlib.resources import files

import msgspec

from aqueue.errors import StoreError
from aqueue.store.postgres.connection import Connection
from aqueue.store.postgres.statement import Statement

MIGRATIONS = tuple(
    file.read_text("utf-8")
    for file in sorted(files("aqueue.store.postgres").joinpath("migrations").iterdir(), key=lambda file: file.name)
    if file.name.endswith(".sql")
)
VERSION = len(MIGRATIONS)
_ENCODINGS = ("UTF8", "SQL_ASCII")
"""Of a database that can store whatever a command may contain and print."""
_INIT = "aqueue store init, or a pool: aqueue worker start"


class _Database(msgspec.Struct):
    has_tables: bool
    encoding: str


_DATABASE = Statement(
    "SELECT to_regclass('aqueue.version') IS NOT NULL AS has_tables, current_setting('server_encoding') AS encoding",
    _Database,
)
_VERSION = Statement("SELECT version FROM aqueue.version", int)


async def prepare(connection: Connection) -> int:
    """Create the tables, or migrate them to this version; return the version they had, 0 for none.

    Raises `StoreError`.
    """
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = 0")  # another pool may be migrating, which may take long
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('aqueue schema'))")
        found = await _version(connection)
        if found == 0:
            await connection.execute("CREATE SCHEMA IF NOT EXISTS aqueue")
            await connection.execute("CREATE TABLE IF NOT EXISTS aqueue.version (version integer NOT NULL)")
            await connection.execute("INSERT INTO aqueue.version VALUES (0)")
        _refuse_newer(found)
        for migration in MIGRATIONS[found:]:
            await connection.execute(migration)
        await connection.execute("UPDATE aqueue.version SET version = %s", (VERSION,))
    return found


async def check(connection: Connection) -> None:
    """Raise `StoreError` unless the tables are of this version."""
    found = await _version(connection)
    _refuse_newer(found)
    if found == 0:
        raise StoreError(f"the database holds no queue yet; this makes one: {_INIT}")
    if found < VERSION:
        raise StoreError(f"the queue in the database is of version {found}; this brings it to {VERSION}: {_INIT}")


def _refuse_newer(found: int) -> None:
    if found > VERSION:
        raise StoreError(f"the queue in the database is of version {found}, and this aqueue knows {VERSION}: update it")


async def _version(connection: Connection) -> int:
    """The version of the tables, 0 for none. Raises `StoreError` if the database cannot hold a queue."""
    database = await _DATABASE.fetch_one(connection)
    assert database is not None
    if database.encoding not in _ENCODINGS:
        raise StoreError(
            f"the database has the encoding {database.encoding}, in which not every job can be stored: "
            f"make another one for the queue, with {' or '.join(_ENCODINGS)}"
        )
    return await _VERSION.fetch_one(connection) or 0 if database.has_tables else 0
