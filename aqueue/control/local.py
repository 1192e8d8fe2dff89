"""Answering without a pool: open the store for a moment, under its lock, and let the same service answer."""

import asyncio
from collections.abc import Sequence

from aqueue.config import Config
from aqueue.control.requests import Part, Request
from aqueue.control.service import Session
from aqueue.files import Files
from aqueue.store import open_store


def answer_here(config: Config, requests: Sequence[Request]) -> list[Part]:
    """The parts of the answer to a request, which may come in parts itself. Raises `PoolRunning` if somebody
    else holds the store."""
    return asyncio.run(answer(config, requests))


async def answer(config: Config, requests: Sequence[Request]) -> list[Part]:
    """Like `answer_here`, inside a running event loop."""
    async with open_store(config, serve=False) as store:
        session = Session(store, Files(config.folder, config.output_limit))
        return [part for request in requests if not session.hold(request) async for part in session.answer(request)]
