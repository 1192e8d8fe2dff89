"""Requests answered without a pool: the store is opened for a moment, and the same service answers."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from aqueue.control.assembly import BatchAssembler
from aqueue.control.requests import Part, Request
from aqueue.control.service import Service
from aqueue.jobs.job import Job
from aqueue.settings.config import Config
from aqueue.store.open import open_store

if TYPE_CHECKING:
    from aqueue.attempts.files import AttemptFiles


def answer_blocking(
    config: Config, requests: Sequence[Request], seconds_left: Callable[[], float | None] = lambda: None
) -> Iterator[Part]:
    """The parts of the answer to a request, of which a long batch has several.

    Raises `PoolRunning` if another process holds the store, and `TimeoutError` if no part comes within `seconds_left`.
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
    """Like `answer_blocking`, inside a running event loop."""
    held = []
    async with open_store(config) as store:
        service, batches = Service(store, _output_remover(config)), BatchAssembler()
        for message in requests:
            request = batches.add(message)
            if request is None:
                continue
            async with aclosing(service.answer(request)) as parts:
                async for part in parts:
                    if config.shared:
                        yield part
                    else:  # a directory is closed before anybody takes the time to read the answer
                        held.append(part)
    for part in held:
        yield part


def _output_remover(config: Config) -> Callable[[Job], None]:
    files: AttemptFiles | None = None

    def remove_output(job: Job) -> None:
        nonlocal files
        if files is None:
            from aqueue.attempts.files import AttemptFiles  # only who removes something pays for it

            files = AttemptFiles(config.folder, config.output_limit)
        files.remove_output(job)

    return remove_output
