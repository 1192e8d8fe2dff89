"""A pool inside an asyncio application: workers over a store, from the lock to the last result.

Its life has three steps. Startup opens the store, recovers what an earlier pool left, and opens the control socket to
other terminals; the main loop works until the pool is stopped; shutdown closes all that again, in whichever way the
block is left.
"""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Self

from anyio import CancelScope

from aqueue.api.pool_run import PoolRun, enter_store
from aqueue.api.queue import Queue
from aqueue.control.assembly import BatchAssembler
from aqueue.control.requests import Part, Request
from aqueue.errors import PoolGone
from aqueue.jobs.fields import check_name
from aqueue.jobs.job import Job, utc_now
from aqueue.pool.workers import Workers
from aqueue.settings import store_url
from aqueue.settings.config import Config, load_config, with_overrides
from aqueue.store.pool_info import PoolInfo
from aqueue.store.subscriptions import Subscribers, Subscription
from aqueue.system import control_socket_path


class Pool(Queue):
    """Workers over a store, for as long as an `async with` block lasts.

    Leaving the block stops it: running commands get `grace` seconds to end by themselves; none if the block is
    left by an error or a cancellation. No signal handlers are installed. Raises `PoolRunning` on entry if
    another pool has the store.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | None = None,
        *,
        workers: int | None = None,
        queues: Sequence[str] = (),
        config: Config | None = None,
    ) -> None:
        """`queues` are those that are served, all if none is named. What is not given comes from `config`, or
        else from the environment and the config file, as for the command line. Raises `InvalidConfig`, and
        `InvalidJob` for a queue that no job can be in."""
        given = {"store": None if store is None else os.fspath(store), "workers": workers}
        overrides = {name: value for name, value in given.items() if value is not None}
        self.config = load_config(overrides=overrides).config if config is None else with_overrides(config, overrides)
        for name in queues:
            check_name("queue", name)
        self.queues = list(queues)
        self._run: PoolRun | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._started_at = utc_now()
        self._stop: dict[str, bool] | None = None
        self._subscriptions: list[Subscription] = []
        self._subscribers = Subscribers()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._live(), name="aqueue pool")
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self._stop_and_wait(now=True)
            raise
        finally:
            ready.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_and_wait(now=kind is not None)

    @property
    def workers(self) -> Workers:
        """The running workers. Raises `PoolGone` outside the block."""
        return self._current_run().workers

    def _current_run(self) -> PoolRun:
        if self._run is None:
            raise PoolGone("the pool is not running")
        return self._run

    @property
    def info(self) -> PoolInfo:
        """The pool as its registry names it."""
        return PoolInfo(
            pid=os.getpid(),
            started_at=self._started_at,
            workers=self.config.workers,
            queues=self.queues,
            store=store_url.redacted(self.config.store),
            socket=str(control_socket_path(self.config.folder)),
            stopping=self._stop is not None,
            host=socket.gethostname(),
            folder=str(self.config.folder),
        )

    def events(self) -> AsyncIterator[Job]:
        """Every change of state from now on, once it is durable; ends when the pool has stopped.

        Asked for before the block is entered, it also tells of jobs whose end an earlier pool did not see.
        """
        subscription = Subscription(self._subscribers.subscribe)
        self._subscriptions.append(subscription)
        return aiter(subscription)

    async def drain(self) -> None:
        """Return when no job is due, running or waiting for a retry (or the pool has stopped)."""
        drained = asyncio.create_task(self._current_run().store.wait_drained())
        assert self._task is not None
        try:
            await asyncio.wait({drained, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if drained.done():
                drained.result()
        finally:
            drained.cancel()

    async def stop(self, *, now: bool = False, leave_running: bool = False) -> None:
        """Stop as leaving the block does, and return when the pool has stopped."""
        self.request_stop(now=now, leave_running=leave_running)
        await self.stopped()

    def request_stop(self, *, now: bool = False, leave_running: bool = False) -> None:
        """Begin to stop: nothing more is claimed. `now` gives running commands no grace, `leave_running` lets
        them run on for the next pool to adopt. May be called again to hurry."""
        self._stop = {"now": now, "leave_running": leave_running}
        if self._run is not None:
            self._run.workers.stop(**self._stop)

    def cancel_running(self, job_id: str) -> None:
        """End the command of a job that somebody cancelled on another host."""
        if self._run is not None:
            self._run.workers.cancel_running(job_id)

    def end_running(self, reason: str) -> None:
        """End the commands that run, which counts as an interruption; the pool goes on."""
        if self._run is not None:
            self._run.runner.interrupt_all(reason)

    async def stopped(self) -> None:
        """Return when the pool has stopped."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def configure(self, changed: Mapping[str, float | int | str | None]) -> None:
        """Take over settings, at once. Raises `InvalidConfig`."""
        self.config = with_overrides(self.config, changed)
        self._current_run().configure(self.config)

    async def _ask(self, *messages: Request) -> AsyncGenerator[Part, None]:
        service, batches = self._current_run().service, BatchAssembler()
        for message in messages:
            request = batches.add(message)
            if request is None:
                await asyncio.sleep(0)  # a long batch is checked part by part, and others have their turn between
            else:
                async with aclosing(service.answer(request)) as parts:
                    async for part in parts:
                        yield part

    async def _live(self) -> None:
        """The pool's life: startup, main loop, shutdown."""
        try:
            async with AsyncExitStack() as stack:
                store = await enter_store(self.config, frozenset(self.queues), self, stack)
                store.subscribe(self._subscribers.publish_change)
                run = self._run = PoolRun(store, self.config, self)
                if self._stop is not None:
                    run.workers.stop(**self._stop)
                await run.start_up(stack)
                self._ready.set()
                await run.main_loop()
            run.clean_up()
        finally:
            self._run = None
            for subscription in self._subscriptions:
                subscription.end()

    async def _stop_and_wait(self, *, now: bool) -> None:
        """Stop, and return only when everything has ended, however often this is cancelled meanwhile."""
        assert self._task is not None
        cancelled: asyncio.CancelledError | None = None
        with CancelScope(shield=True):
            self.request_stop(now=now)
            while not self._task.done():
                try:
                    await asyncio.wait({self._task})
                except asyncio.CancelledError as error:
                    cancelled = error
                    self.request_stop(now=True)
        if cancelled is not None:
            raise cancelled
        self._task.result()
