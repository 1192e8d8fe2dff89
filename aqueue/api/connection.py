"""A queue without workers: for a program that only enqueues and asks."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Self

from aqueue.api.queue import Queue
from aqueue.control import async_transport, contention, local
from aqueue.control.requests import Jobs, Part, Request, Watch
from aqueue.errors import PoolRunning
from aqueue.jobs.job import Job
from aqueue.settings.config import Config, load_config, with_overrides


class Connection(Queue):
    """A queue from a program without workers: it asks the running pool, or where none runs opens the store itself.

    Nothing is held between two calls: a connection may outlive any pool.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held between two calls."""

    async def events(self) -> AsyncGenerator[Job, None]:
        """See `Queue.events`: changes are seen from the moment in which the first one is awaited.

        Raises `InvalidRequest` if no pool is running, or if the reader falls 10,000 changes behind; `PoolGone` if the
        pool dies.
        """
        async with aclosing(self._ask(Watch())) as parts:
            async for part in parts:
                if isinstance(part, Jobs):
                    for job in part.jobs:
                        yield job

    async def _ask(self, *messages: Request) -> AsyncGenerator[Part, None]:
        deadline = time.monotonic() + contention.TIMEOUT
        while True:
            transport = await async_transport.connect(self.config.folder)
            if transport is not None:
                break
            try:
                async with aclosing(local.answer(self.config, messages)) as parts:
                    async for part in parts:
                        yield part
            except PoolRunning:
                if time.monotonic() > deadline:
                    raise contention.unresponsive(self.config.folder) from None
                await asyncio.sleep(contention.POLL_INTERVAL)
                continue
            return
        try:
            await transport.send(messages)
            async for part in transport.answer():
                yield part
        finally:
            transport.close()


def connect(store: str | os.PathLike[str] | None = None, *, config: Config | None = None) -> Connection:
    """A connection to the queue of `store`, for an `async with` block; see `Pool` for what is not given."""
    overrides = {} if store is None else {"store": os.fspath(store)}
    return Connection(load_config(overrides=overrides).config if config is None else with_overrides(config, overrides))
