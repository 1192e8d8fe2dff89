"""A queue without workers: for a program that only enqueues and asks."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Self

from aqueue.api.queue import Queue
from aqueue.control import local, requests, wire
from aqueue.control.requests import Jobs, Part, Request
from aqueue.errors import PoolGone, PoolRunning
from aqueue.jobs.job import Job
from aqueue.settings.config import Config, load_config, with_overrides
from aqueue.system import platform

_LET_GO = 0.02
"""Seconds between looks whether whoever holds the store has let go or opened a door."""


class Connection(Queue):
    """A queue's store from a program without workers: asks the pool that runs, else opens the store itself."""

    def __init__(self, config: Config) -> None:
        self.config = config

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held between two questions."""

    async def events(self) -> AsyncIterator[Job]:
        """Every change of state from now on, until the pool stops. Raises `InvalidRequest` without a pool."""
        async for part in self._ask(requests.Watch()):
            if isinstance(part, Jobs):
                for job in part.jobs:
                    yield job

    async def _ask(self, *parts: Request) -> AsyncIterator[Part]:
        while True:
            line = await self._greeted()
            if line is not None:
                break
            try:
                async with aclosing(local.answer(self.config, parts)) as answers:
                    async for answer in answers:
                        yield answer
            except PoolRunning:  # a pool that will open its door, or a command that lets go soon
                await asyncio.sleep(_LET_GO)
                continue
            return
        reader, writer = line
        try:
            with suppress(ConnectionError):  # the pool says why, if it can, in what it sent before
                for part in parts:
                    writer.writelines(wire.pack_parts(part))
                    await writer.drain()
            while not isinstance(reply := await _receive(reader), requests.Done):
                if isinstance(reply, requests.Failed):
                    raise wire.raised(reply)
                if not isinstance(reply, requests.Hello):
                    yield reply
        finally:
            writer.close()

    async def _greeted(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection to the running pool, None if there is none, or it is just leaving."""
        path = str(platform.socket_path(self.config.folder))
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            writer.write(wire.pack(requests.Hello()))
            wire.check_hello(await _receive(reader))
        except PoolGone:
            writer.close()
            return None
        except BaseException:
            writer.close()
            raise
        return reader, writer


async def _receive(reader: asyncio.StreamReader) -> requests.Reply:
    try:
        (length,) = wire.LENGTH.unpack(await reader.readexactly(wire.LENGTH.size))
        return wire.unpack_reply(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise PoolGone("the pool went away before it answered") from None


def connect(store: str | os.PathLike[str] | None = None, *, config: Config | None = None) -> Connection:
    """A connection to the queue of `store`, for an `async with` block; see `Pool` for what is not given."""
    overrides = {} if store is None else {"store": os.fspath(store)}
    return Connection(load_config(overrides=overrides).config if config is None else with_overrides(config, overrides))
