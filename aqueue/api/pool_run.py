"""One run of a pool: its parts, put together around an open store, and the three steps of its life.

Startup recovers what an earlier pool left and opens the control socket to other terminals, the main loop works until
the pool is stopped, and clean-up removes what only a running pool needs.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from anyio import create_task_group

from aqueue import layout
from aqueue.attempts.files import AttemptFiles
from aqueue.attempts.runner import Runner
from aqueue.control.contention import POLL_INTERVAL
from aqueue.control.registry import registered_pool
from aqueue.control.server import Server
from aqueue.control.service import RunningPool, Service
from aqueue.errors import PoolRunning, StoreError
from aqueue.pool.recovery import Adoptable, Recovery
from aqueue.pool.retention import Retention
from aqueue.pool.workers import Workers
from aqueue.settings.config import Config
from aqueue.store.open import open_pool_store
from aqueue.store.pool_info import PoolInfo
from aqueue.store.protocol import PoolControl, PoolStore
from aqueue.system import connect_control_socket, control_socket_path


class PoolRun:
    """One run of a pool: from when it has its store until that is closed."""

    def __init__(self, store: PoolStore, config: Config, pool: RunningPool) -> None:
        """`pool` is what clients may steer. Raises `StoreError`."""
        self.store = store
        self.files = AttemptFiles(config.folder, config.output_limit)
        self.runner = Runner(store.run_id, self.files, config)
        self.workers = Workers(store, self.files, self.runner, config)
        self.retention = Retention(store, self.files, config.keep)
        self.service = Service(store, self.files.remove_output, pool)
        self._config = config
        self._pool = pool
        self._adoptable: list[Adoptable] = []

    async def start_up(self, stack: AsyncExitStack) -> None:
        """Recover what an earlier pool left, then let clients connect until `stack` closes. Raises `StoreError`."""
        self._adoptable = await Recovery(self.store, self.files, self.runner, self._config).run()
        registry = self._config.folder / layout.REGISTRY
        stack.callback(registry.unlink, missing_ok=True)
        _write_registry(registry, self._pool.info)
        server = Server(control_socket_path(self._config.folder), self.service)
        await server.open()
        stack.push_async_callback(server.close)

    async def main_loop(self) -> None:
        """Work until the pool is stopped."""
        async with create_task_group() as tasks:
            tasks.start_soon(self.retention.run)
            await self.workers.run(self._config.workers, self._adoptable)
            tasks.cancel_scope.cancel()

    def clean_up(self) -> None:
        """Remove files that are not needed any more, now that every result is stored and the store is closed."""
        self.files.close()
        if not self.runner.left_running:
            self.files.remove_statuses({self.store.run_id})

    def configure(self, config: Config) -> None:
        """Take over settings, at once."""
        self.workers.configure(config)
        self.retention.configure(config.keep)


def _write_registry(registry: Path, info: PoolInfo) -> None:
    try:
        registry.write_bytes(msgspec.json.encode(info))
        registry.chmod(0o600)
    except OSError as error:
        raise StoreError(f"cannot write {registry}: {error.strerror}") from error


async def enter_store(config: Config, queues: frozenset[str], pool: PoolControl, stack: AsyncExitStack) -> PoolStore:
    """The store, which `stack` closes. A command may hold its lock for a moment; a pool holds it all its life.

    Raises `PoolRunning`, `StoreError`.
    """
    while True:
        store = open_pool_store(config, queues)
        store.attach(pool)
        try:
            await stack.enter_async_context(store)
            return store
        except PoolRunning:
            connection = connect_control_socket(control_socket_path(config.folder))
            if connection is not None:
                connection.close()
                other = registered_pool(config.folder)
                who = f"pid {other.pid}" if other else "its pid is not known yet"
                raise PoolRunning(f"a pool ({who}) has the store {config.folder}: aqueue worker stop") from None
            await asyncio.sleep(POLL_INTERVAL)
