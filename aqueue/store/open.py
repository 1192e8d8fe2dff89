"""Which store a configuration names: the one place that picks a store by its URL."""

from collections.abc import Iterator
from contextlib import contextmanager

from aqueue.errors import StoreError
from aqueue.settings.config import Config
from aqueue.store.protocol import PoolStore, Store


def open_store(config: Config) -> Store:
    """The store that `config` names, for queries and changes, to be entered with `async with`.

    Raises `StoreError` if what a database needs is not installed.
    """
    if not config.shared:
        from aqueue.store.journal.store import JournalStore

        return JournalStore(config.folder)
    with _psycopg():
        from aqueue.store.postgres.store import PostgresStore
    return PostgresStore(config)


def open_pool_store(config: Config, queues: frozenset[str] = frozenset()) -> PoolStore:
    """The same for the pool that serves it. `claim` takes jobs of `queues`, of all if none is named."""
    if not config.shared:
        from aqueue.store.journal.pool_store import JournalPoolStore

        return JournalPoolStore(config.folder, queues, max_interruptions=config.max_interruptions)
    with _psycopg():
        from aqueue.store.postgres.pool_store import PostgresPoolStore
    return PostgresPoolStore(config, queues)


async def prepare_database(config: Config) -> tuple[int, int]:
    """Create the tables in the database that `config` names, or migrate them to this version; return the version that
    they had, 0 for none, and have now. Raises `StoreError`."""
    with _psycopg():
        from aqueue.store.postgres.integrity import prepare
    return await prepare(config)


async def check_database(config: Config, *, repair: bool) -> tuple[list[str], list[str], int]:
    """What is wrong in a database, what was done about it if `repair`, and how many jobs it holds.

    Raises `StoreError`.
    """
    with _psycopg():
        from aqueue.store.postgres.integrity import check
    return await check(config, repair=repair)


@contextmanager
def _psycopg() -> Iterator[None]:
    """Raise an error that says what to install if an import fails: psycopg is needed for a database only."""
    try:
        yield
    except ImportError as error:
        raise StoreError(f"a database needs psycopg ({error}): pip install 'psycopg[binary]>=3.2'") from None
