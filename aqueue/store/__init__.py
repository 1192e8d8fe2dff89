"""Where jobs live. `Store` is what every store can do; `open_store` picks one by its URL."""

from aqueue.errors import StoreError
from aqueue.store.protocol import Query, Store

__all__ = ["Query", "Store", "open_store"]


def open_store(url: str, *, max_interruptions: int = 5, queues: frozenset[str] = frozenset()) -> Store:
    """The store at `url`, a directory's path; to be entered with `async with`.

    `queues` are the queues that `claim` takes from, all if none is named. Raises `StoreError` for a URL that
    names no store.
    """
    if "://" in url:
        raise StoreError(f"{url}: this version keeps its jobs in a directory; give the path of one")
    from pathlib import Path

    from aqueue.store.json_store import JsonStore

    return JsonStore(Path(url), max_interruptions=max_interruptions, queues=queues)
