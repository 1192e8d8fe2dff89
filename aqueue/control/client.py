"""The client of the command line: it asks the running pool, or where none runs lets the store answer here.

Blocking, and without an event loop while a pool runs, because a short command must start fast.
"""

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from aqueue.control.registry import registered_pool
from aqueue.control.requests import Ids, Jobs, Overview, Part, Request, Status
from aqueue.control.transport import Transport, connect
from aqueue.errors import PoolRunning
from aqueue.jobs.job import Job
from aqueue.settings.config import Config
from aqueue.store.pool_info import PoolInfo


class Client:
    """Asks the queue that `config` names. To be used in a `with` statement."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = config.folder
        self._transport: Transport | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def pool(self) -> PoolInfo | None:
        """The running pool."""
        return registered_pool(self.folder) if self.connect() else None

    def ask(self, request: Request | Iterable[Request], deadline: float | None = None) -> Iterator[Part]:
        """The parts of the answer to a request, which may be the parts of a batch (see `aqueue.control.batches`).

        Raises an `AqueueError`, and `TimeoutError` where `deadline`, by `time.monotonic`, passes.
        """
        messages = request if isinstance(request, Iterable) else (request,)
        transport = self.connect(deadline)
        if transport is None:
            yield from self._answer_locally(list(messages), deadline)
        else:
            yield from self._ask_pool(transport, messages)

    def jobs(self, request: Request | Iterable[Request], deadline: float | None = None) -> Iterator[Job]:
        """The jobs of the answer, as they come; otherwise like `ask`."""
        return (job for part in self.ask(request, deadline) if isinstance(part, Jobs) for job in part.jobs)

    def ids(self, request: Request) -> Iterator[str]:
        """The ids of the answer, as they come; otherwise like `ask`."""
        return (job_id for part in self.ask(request) if isinstance(part, Ids) for job_id in part.ids)

    def overview(self) -> Overview:
        """The queue as a whole."""
        (overview,) = (part for part in self.ask(Status()) if isinstance(part, Overview))
        return overview

    def connect(self, deadline: float | None = None) -> Transport | None:
        """The connection to the running pool, made if there is none yet; None where no pool runs.

        What is sent and received from now on has until `deadline`.
        """
        if self._transport is None:
            self._transport = connect(self.folder, deadline)
        else:
            self._transport.set_deadline(deadline)
        return self._transport

    def close(self) -> None:
        """Close the connection to the running pool, if there is one."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _ask_pool(self, transport: Transport, messages: Iterable[Request]) -> Iterator[Part]:
        try:
            transport.send(messages)
            yield from transport.answer()
        finally:
            # An answer that was not read to its end would be taken for that to the next request.
            if transport.answering and transport is self._transport:
                self.close()

    def _answer_locally(self, messages: list[Request], deadline: float | None) -> Iterator[Part]:
        from aqueue.control import contention, local  # an event loop and a store: only where no pool runs

        def seconds_left() -> float | None:
            return None if deadline is None else max(0.001, deadline - time.monotonic())

        patience = time.monotonic() + contention.TIMEOUT
        while True:
            try:
                yield from local.answer_blocking(self.config, messages, seconds_left)
                return
            except PoolRunning:
                while (transport := self.connect(deadline)) is None and not contention.is_released(self.folder):
                    if time.monotonic() > patience:
                        raise contention.unresponsive(self.folder) from None
                    time.sleep(contention.POLL_INTERVAL)
            if transport is not None:
                yield from self._ask_pool(transport, messages)
                return
