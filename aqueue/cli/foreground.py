"""The pool in a terminal: signals stop it, every job's start and end is a line, a drain shows its progress."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, TextIO

from aqueue import __version__
from aqueue.api.pool import Pool
from aqueue.cli import output
from aqueue.cli.log import TextLine, json_line
from aqueue.errors import PoolGone, printable
from aqueue.jobs.job import Job, State
from aqueue.settings import store_url
from aqueue.settings.config import Config
from aqueue.units import span

if TYPE_CHECKING:
    from aqueue.cli.progress import DrainBar

_log = logging.getLogger("aqueue")
REDRAW = 0.1
"""Seconds between two updates of a progress bar, while there is something new."""


def run_pool(config: Config, queues: list[str], *, drain: bool, as_json: bool) -> int:
    """Run a pool until it is told to stop, or has nothing left to do; return the exit status."""
    _watch_children_cheaply()
    return asyncio.run(_Foreground(config, queues, drain=drain, as_json=as_json).run())


def _watch_children_cheaply() -> None:
    # Python before 3.12 starts a thread for every child unless it is told to use pidfds.
    if sys.version_info < (3, 12) and hasattr(os, "pidfd_open"):
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
        # Commands that are left running are meant to be.
        warnings.filterwarnings("ignore", "A loop is being detached from a child watcher", RuntimeWarning)


class _PoolLog(logging.Handler):
    """What the pool says of itself: trouble goes to stderr at once, the rest into the log behind its first lines."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._say = say
        self._early: list[str] | None = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            with suppress(OSError):
                output.hint(text)
        elif self._early is not None:
            self._early.append(text)
        else:
            self._say(text)

    def begin(self) -> None:
        """The first lines of the log are written."""
        early, self._early = self._early or [], None
        for text in early:
            self._say(text)


class _Foreground:
    def __init__(self, config: Config, queues: list[str], *, drain: bool, as_json: bool) -> None:
        self._config = config
        self._queues = queues
        self._drain = drain
        self._line = json_line if as_json else TextLine()
        self._as_json = as_json
        self._ended: Counter[State] = Counter()
        self._began = time.monotonic()
        self._stops = 0
        self._stopped = False
        self._bar: DrainBar | None = None
        self._waiting: list[str] = []

    async def run(self) -> int:
        log = _PoolLog(self._say)
        _log.addHandler(log)
        _log.setLevel(logging.INFO)
        self._pool = Pool(config=self._config, queues=self._queues)
        changes = self._pool.events()
        async with self._pool:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._stop)
            gc.freeze()  # the jobs that are there need not be walked by every collection
            self._say_hello()
            log.begin()
            with self._progress():
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    if self._bar is not None:
                        await self._show_counts()
                    if self._drain:
                        tasks.create_task(self._drained())
                    async for job in changes:
                        self._report(job)
                self._stopped = True
                self._print_waiting()
        self._say(self._summary())
        self._end_log()
        return 1 if self._drain and self._ended[State.DEAD] else 0

    def _say_hello(self) -> None:
        count = self._config.workers
        queues = f", queues {', '.join(self._queues)}" if self._queues else ""
        store = store_url.redacted(self._config.store)
        self._say(f"aqueue {__version__}: {count} worker{'s'[: count != 1]} on {store}{queues}")
        self._say("stop with Ctrl-C, or: aqueue worker stop")

    def _say(self, text: str) -> None:
        """Something about the pool: part of the log for a person, and beside it where the log is JSON."""
        if self._as_json:
            with suppress(OSError):
                output.hint(text)
        else:
            self._print([printable(text)])

    def _progress(self) -> "DrainBar | nullcontext[None]":
        if not (self._drain and sys.stdout.isatty() and not self._as_json):
            return nullcontext()
        from aqueue.cli.progress import DrainBar

        self._bar = DrainBar()
        return self._bar

    async def _drained(self) -> None:
        await self._pool.drain()
        self._pool.request_stop()

    def _stop(self) -> None:
        if self._stopped:
            return
        self._stops += 1
        if self._stops > 1:
            self._pool.request_stop(now=True)
            return
        self._pool.request_stop()
        running = len(self._pool.workers.runner.running)
        if running:
            plural = "command runs" if running == 1 else "commands run"
            self._say(f"stopping: {running} {plural} on for at most {span(self._config.grace)}; Ctrl-C ends them now")

    def _report(self, job: Job) -> None:
        if job.state.final:
            self._ended[job.state] += 1
        text = self._line(job)
        if text is None:
            return
        if not self._waiting:  # what happens together is written together
            if self._bar is None:
                asyncio.get_running_loop().call_soon(self._print_waiting)
            else:
                self._tasks.create_task(self._redraw())
        self._waiting.append(text)

    async def _redraw(self) -> None:
        await asyncio.sleep(REDRAW)  # a terminal need not show more
        with suppress(PoolGone):
            await self._show_counts()
        self._print_waiting()

    def _print_waiting(self) -> None:
        lines, self._waiting = self._waiting, []
        if lines:
            self._print(lines)

    async def _show_counts(self) -> None:
        assert self._bar is not None
        counts = await self._pool.counts()
        left = sum(counts[state] for state in State if not state.final)
        note = (
            f"{self._ended[State.COMPLETED]} completed, {self._ended[State.DEAD]} dead, {counts[State.FAILED]} to retry"
        )
        self._bar.show(self._ended.total(), left, note)

    def _print(self, lines: list[str]) -> None:
        if self._bar is not None:
            self._bar.print(lines)
            return
        try:
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # Nobody reads the log any more: end as if asked to, and let nothing else fail on it.
            _lead_nowhere(sys.stdout)
            self._pool.request_stop()
        except OSError:
            pass  # a log on a full disk: it does without these lines, and the jobs do not depend on it

    def _end_log(self) -> None:
        """What could not be written to the log by now is given up, and does not count as a failure."""
        try:
            sys.stdout.flush()
        except OSError:
            _lead_nowhere(sys.stdout)

    def _summary(self) -> str:
        parts = [f"{self._ended[state]} {state}" for state in (State.COMPLETED, State.DEAD, State.CANCELLED)]
        return f"{', '.join(parts)}, in {span(time.monotonic() - self._began)}"


def _lead_nowhere(stream: TextIO) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
