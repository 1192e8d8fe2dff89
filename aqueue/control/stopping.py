"""Stopping pools from outside, and returning when they are gone."""

import time

from aqueue.control.client import Client
from aqueue.control.contention import POLL_INTERVAL, is_released
from aqueue.control.registry import registered_pool
from aqueue.control.requests import Stop, StopPools
from aqueue.errors import InvalidRequest, PoolGone, WaitTimeout
from aqueue.store.pool_info import PoolInfo


def stop_pool(
    client: Client, *, now: bool = False, leave_running: bool = False, timeout: float | None = None
) -> PoolInfo | None:
    """Stop the running pool of this host and return once it is gone; None if there was none. Raises `WaitTimeout`."""
    deadline = None if timeout is None else time.monotonic() + timeout
    pool = registered_pool(client.folder)
    try:
        transport = client.connect(deadline)
        if transport is None or pool is None:
            return None
        for _ in client.ask(Stop(now, leave_running), deadline):
            pass
        transport.wait_closed()
        _wait_for_lock(client, deadline)
    except TimeoutError:
        who = f"the pool (pid {pool.pid})" if pool else f"the pool of {client.folder}"
        raise WaitTimeout(f"{who} is still stopping after {timeout:g} s") from None
    finally:
        client.close()
    return pool


def _wait_for_lock(client: Client, deadline: float | None) -> None:
    """Return when the pool has released its store, which is the last thing that it does."""
    while not is_released(client.folder):
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(POLL_INTERVAL)


def stop_pools(
    client: Client,
    name: str | None,
    *,
    now: bool = False,
    leave_running: bool = False,
    timeout: float | None = None,
) -> list[PoolInfo]:
    """Stop the pool of any host that is called `name`, all if it is None, and return once they are gone.

    Raises `InvalidRequest` if there is no such pool, `WaitTimeout`.
    """
    if not client.config.shared:
        raise InvalidRequest("a directory has one pool, on this host: aqueue worker stop")
    pools = client.overview().pools
    chosen = [pool for pool in pools if name in (None, pool.name)]
    if name is not None and not chosen:
        running = ", ".join(pool.name for pool in pools) or "none"
        raise InvalidRequest(f"no pool is called {name}; those that run: {running}")
    deadline = None if timeout is None else time.monotonic() + timeout
    request = StopPools([pool.run for pool in chosen], now, leave_running)
    while chosen:
        try:
            for _ in client.ask(request, deadline):
                pass
            break
        except PoolGone:
            continue  # it was one of them
        except TimeoutError:
            raise WaitTimeout(f"pools are still stopping after {timeout:g} s") from None
    return chosen
