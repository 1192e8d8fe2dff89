"""When the loop of round trips is woken, and how long it waits before it tries again."""

import asyncio
from collections.abc import Callable


class EarliestTimer:
    """One timer for many reasons: it fires once, at the earliest of the times for which it was set."""

    def __init__(self, on_fire: Callable[[], None]) -> None:
        self._on_fire = on_fire
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Fire in so many seconds at the latest."""
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if self._timer is None or at < self._timer.when():
            self.cancel()
            self._timer = loop.call_at(at, self._fire)

    def cancel(self) -> None:
        """Do not fire, unless it is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._on_fire()


class Backoff:
    """A delay that doubles from one try to the next."""

    def __init__(self, first: float, longest: float) -> None:
        """In seconds."""
        self._first = first
        self._longest = longest
        self._next = first

    def next(self) -> float:
        """The delay before the next try."""
        delay = self._next
        self._next = min(2 * delay, self._longest)
        return delay

    def reset(self) -> None:
        """Begin with the first delay again."""
        self._next = self._first
