"""What is known of a running pool, wherever that is written down."""

from datetime import datetime

import msgspec


class PoolInfo(msgspec.Struct, frozen=True):
    """A running pool, as `pool.json` names the one of a directory, and a database those of all hosts.

    `run` names this start of it among all others; `folder` is where it keeps its files on `host`; `busy` is how many
    of its workers are.
    """

    pid: int
    started_at: datetime
    workers: int
    queues: list[str]
    store: str
    socket: str = ""
    stopping: bool = False
    run: str = ""
    host: str = ""
    folder: str = ""
    busy: int = 0

    @property
    def name(self) -> str:
        """What `aqueue worker stop` calls it."""
        return f"{self.host}/{self.pid}"
