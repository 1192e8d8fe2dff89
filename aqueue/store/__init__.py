"""Where jobs live. `Store` is what every store can do; `open_store` picks one by its URL."""

from aqueue.config import Config
from aqueue.errors import StoreError
from aqueue.store.protocol import Orders, Query, Store

__all__ = ["Orders", "Query", "Store", "open_store"]


def open_store(config: Config, *, queues: frozenset[str] = frozenset(), serve: bool = True) -> Store:
    """The store that `config` names, to be entered with `async with`.

    `queues` are the queues that `claim` takes from, all if none is named; with `serve` it is opened for a pool, and
    without for a question. Raises `StoreError` if what a database needs is not installed.
    """
    if not config.shared:
        from aqueue.store.json_store import JsonStore

        return JsonStore(config.folder, max_interruptions=config.max_interruptions, queues=queues)
    try:
        from aqueue.store.postgres.store import PostgresStore
    except ImportError as error:
        raise StoreError(f"a database needs psycopg ({error}): pip install 'aqueue[postgres]'") from None
    return PostgresStore(config, queues=queues, serve=serve)
