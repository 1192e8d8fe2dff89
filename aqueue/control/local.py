"""Answering without a pool: open the store for a moment, and let the same service answer."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing

from aqueue.attempts.files import AttemptFiles
from aqueue.control.requests import Part, Request
from aqueue.control.service import Session
from aqueue.settings.config import Config
from aqueue.store.open import open_store


def answer_here(
    config: Config, requests: Sequence[Request], seconds_left: Callable[[], float | None] = lambda: None
) -> Iterator[Part]:
    """The parts of the answer to a request, which may come in parts itself.

    Raises `PoolRunning` if somebody else holds the store, and `TimeoutError` if no part comes in `seconds_left`.
    """
    logging.getLogger("aqueue").addHandler(logging.NullHandler())  # an error says it all where nothing goes on
    with asyncio.Runner() as runner:
        parts = answer(config, requests)
        try:
            while True:
                yield runner.run(_next(parts, seconds_left()))
        except StopAsyncIteration:
            return
        finally:
            runner.run(parts.aclose())


async def _next(parts: AsyncIterator[Part], seconds: float | None) -> Part:
    async with asyncio.timeout(seconds):
        return await anext(parts)


async def answer(config: Config, requests: Sequence[Request]) -> AsyncGenerator[Part, None]:
    """Like `answer_here`, inside a running event loop."""
    held = []
    async with open_store(config) as store:
        session = Session(store, AttemptFiles(config.folder, config.output_limit))
        for request in requests:
            if session.hold(request):
                continue
            async with aclosing(session.answer(request)) as parts:
                async for part in parts:
                    if config.shared:
                        yield part
                    else:  # a directory is let go before anybody takes the time to read the answer
                        held.append(part)
    for part in held:
        yield part
