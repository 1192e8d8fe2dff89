"""The registry: the file in which a pool says who it is, beside its socket."""

from pathlib import Path

import msgspec

from aqueue import layout
from aqueue.errors import UNREADABLE
from aqueue.store.pool_info import PoolInfo


def registered_pool(folder: Path) -> PoolInfo | None:
    """The pool that the registry in `folder` names; None if there is no registry, or it cannot be read."""
    try:
        return msgspec.json.decode((folder / layout.REGISTRY).read_bytes(), type=PoolInfo)
    except (OSError, *UNREADABLE):
        return None
