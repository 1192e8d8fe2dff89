"""The other side of the door: ask the running pool, else open the store and answer here.

Blocking, and without an event loop while a pool runs, because a short command must start fast.
"""

import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from aqueue import layout
from aqueue.control import wire
from aqueue.control.requests import (
    Done,
    Failed,
    Get,
    Hello,
    Jobs,
    Overview,
    Part,
    Reply,
    Request,
    Status,
    Stop,
    StopPools,
    Wait,
)
from aqueue.errors import UNREADABLE, InvalidRequest, PoolGone, PoolRunning, StoreError, WaitTimeout
from aqueue.jobs.job import Job
from aqueue.settings.config import Config
from aqueue.store.pool_info import PoolInfo
from aqueue.system import platform

_LOOK_AGAIN = 0.2
"""Seconds between looks for a pool, while there is none and something is waited for."""
_LET_GO = 0.01
"""Seconds between looks whether a command that holds the store has let go."""
_TAKEOVER = 60.0
"""Seconds in which whoever holds the store must either open a door or let go."""


class Client:
    """Asks a store's queue. To be used in a `with` statement."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = config.folder
        self._line: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._hang_up()

    @property
    def pool(self) -> PoolInfo | None:
        """The running pool."""
        return registered_pool(self.folder) if self._connect() else None

    def ask(self, *requests: Request | Iterable[Request], deadline: float | None = None) -> Iterator[Part]:
        """The parts of the answer to a request, which may come in parts itself.

        Raises an `AqueueError`, and `TimeoutError` where `deadline`, by `time.monotonic`, passes without a pool.
        """
        stream = _flat(requests)
        if self._connect(deadline):
            yield from self._ask_pool(stream)
            return
        from aqueue.control.local import answer_here

        held = list(stream)
        patience = time.monotonic() + _TAKEOVER
        while True:
            try:
                yield from answer_here(self.config, held, lambda: _seconds_left(deadline))
            except PoolRunning:
                if not self._door_opens(patience):
                    continue
                yield from self._ask_pool(held)
            return

    def wait(self, ids: list[str], timeout: float | None = None) -> Iterator[Job]:
        """Each of the jobs once it has ended; with no ids all that are unfinished now. `timeout` in seconds.

        Also while no pool runs: then they end when a pool has come and done the work. Raises `WaitTimeout`,
        `UnknownJob`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        left = dict.fromkeys(ids or self._unfinished(deadline))
        while left:
            try:
                for job in self._wait_once(list(left), deadline):
                    left.pop(job.id, None)
                    yield job
                if left:
                    _pause(deadline)
            except PoolGone:
                continue
            except TimeoutError:
                self._hang_up()
                raise WaitTimeout(f"job {next(iter(left))} has not ended after {timeout:g} s") from None

    def stop(self, *, now: bool = False, leave_running: bool = False, timeout: float | None = None) -> PoolInfo | None:
        """Stop the running pool and return once it is gone; None if there was none. Raises `WaitTimeout`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pool = registered_pool(self.folder)
        try:
            if not self._connect(deadline) or pool is None:
                return None
            assert self._line is not None
            for _ in self._ask_pool(iter([Stop(now, leave_running)])):
                pass
            self._line.settimeout(_seconds_left(deadline))
            while self._line.recv(4096):
                pass
            self._hang_up()
            while (lock := platform.try_lock(self.folder / layout.LOCK)) is None:
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError
                time.sleep(0.01)
        except TimeoutError:
            assert pool is not None
            self._hang_up()
            raise WaitTimeout(f"the pool (pid {pool.pid}) is still stopping after {timeout:g} s") from None
        except ConnectionError:
            return pool
        os.close(lock)
        return pool

    def stop_pools(
        self, name: str | None, *, now: bool = False, leave_running: bool = False, timeout: float | None = None
    ) -> list[PoolInfo]:
        """Stop the pool of any host that is called `name`, all if it is None, and return once they are gone.

        Raises `InvalidRequest` if there is no such pool, `WaitTimeout`.
        """
        if not self.config.shared:
            raise InvalidRequest("a directory has one pool, on this host: aqueue worker stop")
        pools = [pool for part in self.ask(Status()) if isinstance(part, Overview) for pool in part.pools]
        chosen = [pool for pool in pools if name in (None, pool.name)]
        if name is not None and not chosen:
            there = ", ".join(pool.name for pool in pools) or "none"
            raise InvalidRequest(f"no pool is called {name}; there are: {there}")
        deadline = None if timeout is None else time.monotonic() + timeout
        request = StopPools([pool.run for pool in chosen], now, leave_running)
        while chosen:
            try:
                for _ in self.ask(request, deadline=deadline):
                    pass
                break
            except PoolGone:
                continue  # it was one of them
            except TimeoutError:
                raise WaitTimeout(f"pools are still stopping after {timeout:g} s") from None
        return chosen

    def _wait_once(self, ids: list[str], deadline: float | None) -> Iterator[Job]:
        """What of these has ended, or ends while the pool that runs now does."""
        request: Request = Wait(ids) if self._connect(deadline) or self.config.shared else Get(ids)
        for part in self.ask(request, deadline=deadline):
            assert isinstance(part, Jobs)
            yield from (job for job in part.jobs if job.state.final)
        if self._line is not None:
            self._line.settimeout(None)

    def _unfinished(self, deadline: float | None) -> list[str]:
        from aqueue.control.requests import Find
        from aqueue.jobs.job import FINAL_STATES, State

        states = [state for state in State if state not in FINAL_STATES]
        try:
            self._connect(deadline)
            parts = self.ask(Find(states=states))
            return [job.id for part in parts if isinstance(part, Jobs) for job in part.jobs]
        except TimeoutError:
            self._hang_up()
            raise WaitTimeout(f"the pool of {self.folder} does not answer") from None

    def _connect(self, deadline: float | None = None) -> bool:
        """Whether a pool runs, which is connected then. It has until `deadline` for each part of its answers, from
        now on; else they raise `TimeoutError`."""
        if self._line is None:
            try:
                self._line = platform.connect(platform.socket_path(self.folder))
            except OSError as error:
                raise StoreError(f"cannot reach the pool of {self.folder}: {error.strerror or error}") from error
            if self._line is None:
                return False
            self._line.settimeout(_seconds_left(deadline))
            try:
                with suppress(ConnectionError):  # it may just be leaving; what it said before can still be read
                    self._line.sendall(wire.pack(Hello()))
                greeting = self._receive()
            except PoolGone:
                return False
            if isinstance(greeting, Failed):
                raise wire.raised(greeting)
            wire.check_hello(greeting)
        if deadline is not None:
            self._line.settimeout(_seconds_left(deadline))
        return True

    def _ask_pool(self, stream: Iterable[Request]) -> Iterator[Part]:
        assert self._line is not None
        with suppress(ConnectionError):  # it says why, if it can, in what it sent before
            for request in stream:
                for data in wire.pack_parts(request):
                    self._line.sendall(data)
        while True:
            reply = self._receive()
            if isinstance(reply, Failed):
                raise wire.raised(reply)
            if isinstance(reply, Done):
                return
            if isinstance(reply, Hello):
                continue
            yield reply

    def _door_opens(self, deadline: float) -> bool:
        """Whether whoever holds the store is a pool that opens its door, and not a command that lets go soon."""
        while not self._connect():
            lock = platform.try_lock(self.folder / layout.LOCK)
            if lock is not None:
                os.close(lock)
                return False
            if time.monotonic() > deadline:
                raise PoolRunning(f"another process holds the store {self.folder} and does not answer")
            time.sleep(_LET_GO)
        return True

    def _receive(self) -> Reply:
        length = wire.LENGTH.unpack(self._exactly(wire.LENGTH.size))[0]
        return wire.unpack_reply(self._exactly(length))

    def _exactly(self, count: int) -> bytes:
        assert self._line is not None
        parts = []
        while count:
            try:
                part = self._line.recv(min(count, 1 << 20))
            except ConnectionError:
                part = b""
            if not part:
                self._hang_up()
                raise PoolGone("the pool went away before it answered")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


def _flat(requests: Iterable[Request | Iterable[Request]]) -> Iterator[Request]:
    for request in requests:
        if isinstance(request, Iterable):
            yield from request
        else:
            yield request


def _seconds_left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.001, deadline - time.monotonic())


def _pause(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise TimeoutError
    time.sleep(_LOOK_AGAIN)


def registered_pool(store: Path) -> PoolInfo | None:
    """The pool that the registry of the store names."""
    try:
        return msgspec.json.decode((store / layout.REGISTRY).read_bytes(), type=PoolInfo)
    except (OSError, *UNREADABLE):
        return None
