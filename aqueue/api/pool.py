"""Workers over a store inside an asyncio application: the pool's life, from the lock to the last result.

It opens the store, recovers what an earlier pool left, opens its door to other terminals, works, and closes all
that again, in whichever way its block is left.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Self

import msgspec
from anyio import CancelScope

from aqueue import layout
from aqueue.api.queue import Queue
from aqueue.attempts.files import AttemptFiles
from aqueue.control.assembly import BatchAssembler
from aqueue.control.contention import POLL_INTERVAL
from aqueue.control.registry import registered_pool
from aqueue.control.requests import Part, Request
from aqueue.control.server import Server
from aqueue.control.service import Service
from aqueue.errors import PoolGone, PoolRunning, StoreError
from aqueue.jobs.fields import check_name
from aqueue.jobs.job import Job, utc_now
from aqueue.pool.workers import Workers
from aqueue.settings import store_url
from aqueue.settings.config import Config, load_config, with_overrides
from aqueue.store.open import open_pool_store
from aqueue.store.pool_info import PoolInfo
from aqueue.store.protocol import PoolStore
from aqueue.store.subscriptions import Subscribers, Subscription
from aqueue.system import connect_control_socket, control_socket_path

_log = logging.getLogger("aqueue")


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
        self._workers: Workers | None = None
        self._service: Service | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._started_at = utc_now()
        self._stop: dict[str, bool] | None = None
        self._changes: list[Subscription] = []
        self._subscribers = Subscribers()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._serve(), name="aqueue pool")
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self._end(now=True)
            raise
        finally:
            ready.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(now=kind is not None)

    @property
    def workers(self) -> Workers:
        """The running workers. Raises `PoolGone` outside the block."""
        if self._workers is None:
            raise PoolGone("the pool is not running")
        return self._workers

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
        changes = Subscription(self._subscribers.subscribe)
        self._changes.append(changes)
        return aiter(changes)

    async def drain(self) -> None:
        """Return when no job is due, running or waiting for a retry (or the pool has stopped)."""
        drained = asyncio.create_task(self.workers.store.wait_drained())
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
        them go on for the next pool to adopt. May be called again to hurry."""
        self._stop = {"now": now, "leave_running": leave_running}
        if self._workers is not None:
            self._workers.stop(**self._stop)

    def cancel_running(self, name: str) -> None:
        """End the command of job `name`, which somebody cancelled on another host."""
        if self._workers is not None:
            self._workers.cancel_running(name)

    def end_running(self, reason: str) -> None:
        """End the commands that run, which counts as an interruption; the pool goes on."""
        if self._workers is not None:
            self._workers.runner.interrupt_all(reason)

    async def stopped(self) -> None:
        """Return when the pool has stopped."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def configure(self, changed: Mapping[str, float | int | str | None]) -> None:
        """Take over settings, at once. Raises `InvalidConfig`."""
        self.config = with_overrides(self.config, changed)
        self.workers.configure(self.config)

    async def _ask(self, *messages: Request) -> AsyncGenerator[Part, None]:
        if self._service is None:
            raise PoolGone("the pool is not running")
        service, batches = self._service, BatchAssembler()
        for message in messages:
            request = batches.add(message)
            if request is None:
                await asyncio.sleep(0)  # a long batch is checked part by part, and others have their turn between
            else:
                async with aclosing(service.answer(request)) as parts:
                    async for part in parts:
                        yield part

    async def _serve(self) -> None:
        """Open the store, recover, work, close: the pool's life."""
        try:
            async with AsyncExitStack() as stack:
                store = await self._take_store(stack)
                store.subscribe(self._subscribers.publish_change)
                files = AttemptFiles(self.config.folder, self.config.output_limit)
                self._workers = Workers(store, files, self.config)
                self._service = Service(store, files.remove_output, self)
                if self._stop is not None:
                    self._workers.stop(**self._stop)
                await self._workers.recover()
                await self._work(self._workers, self._service)
            files.close()
            if not self._workers.runner.left_running:
                files.remove_statuses({store.run_id})
        finally:
            self._service = self._workers = None
            for changes in self._changes:
                changes.end()

    async def _work(self, workers: Workers, service: Service) -> None:
        folder = self.config.folder
        registry = folder / layout.REGISTRY
        try:
            registry.write_bytes(msgspec.json.encode(self.info))
            registry.chmod(0o600)
        except OSError as error:
            raise StoreError(f"cannot write {registry}: {error.strerror}") from error
        server = Server(control_socket_path(folder), service)
        try:
            await server.open()
            try:
                self._ready.set()
                await workers.run(self.config.workers)
            finally:
                await server.close()
        finally:
            registry.unlink(missing_ok=True)

    async def _take_store(self, stack: AsyncExitStack) -> PoolStore:
        """The store, entered in `stack`. A command may hold it for a moment, a pool for its lifetime."""
        folder = self.config.folder
        while True:
            store = open_pool_store(self.config, frozenset(self.queues))
            store.attach(self)
            try:
                await stack.enter_async_context(store)
                return store
            except PoolRunning:
                connected = connect_control_socket(control_socket_path(folder))
                if connected is not None:
                    connected.close()
                    pool = registered_pool(folder)
                    who = f"pid {pool.pid}" if pool else "its pid is not known yet"
                    raise PoolRunning(f"a pool ({who}) has the store {folder}: aqueue worker stop") from None
                await asyncio.sleep(POLL_INTERVAL)

    async def _end(self, *, now: bool) -> None:
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
