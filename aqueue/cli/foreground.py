"""A pool in the foreground: signals stop it, every start and end of a job is a line, a drain shows its progress."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
import warnings
from collections import Counter
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, TextIO

from aqueue import __version__
from aqueue.api.pool import Pool
from aqueue.cli import output
from aqueue.cli.log import PoolLogHandler, TextLine, json_line
from aqueue.errors import PoolGone, printable
from aqueue.jobs.job import Job, State
from aqueue.settings import store_url
from aqueue.settings.config import Config
from aqueue.units import span

if TYPE_CHECKING:
    from aqueue.cli.progress import DrainBar

_log = logging.getLogger("aqueue")
REDRAW_INTERVAL = 0.1
"""Seconds between two updates of the progress bar, while there is something new."""


def run_pool(config: Config, queues: list[str], *, drain: bool, as_json: bool) -> int:
    """Run a pool until it is stopped, with `drain` until no job is left to run; return the exit status."""
    _use_pidfd_child_watcher()
    return asyncio.run(_ForegroundPool(config, queues, drain=drain, as_json=as_json).run())


def _use_pidfd_child_watcher() -> None:
    # Python before 3.12 would start a thread for every child.
    if sys.version_info < (3, 12) and hasattr(os, "pidfd_open"):
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
        # Commands that are left running are meant to be.
        warnings.filterwarnings("ignore", "A loop is being detached from a child watcher", RuntimeWarning)


class _ForegroundPool:
    def __init__(self, config: Config, queues: list[str], *, drain: bool, as_json: bool) -> None:
        self._config = config
        self._queues = queues
        self._drain = drain
        self._as_json = as_json
        self._format = json_line if as_json else TextLine()
        self._started_at = time.monotonic()
        self._ended: Counter[State] = Counter()
        """How many jobs have ended in each state."""
        self._signals = 0
        self._stopped = False
        self._bar: DrainBar | None = None
        self._unprinted: list[str] = []

    async def run(self) -> int:
        handler = PoolLogHandler(self._print_notice)
        _log.addHandler(handler)
        _log.setLevel(logging.INFO)
        self._pool = Pool(config=self._config, queues=self._queues)
        changes = self._pool.events()
        async with self._pool:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._on_signal)
            gc.freeze()  # so that no collection walks the jobs that are there already
            self._print_banner()
            handler.start_printing()
            with self._progress_bar():
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    if self._bar is not None:
                        await self._update_bar()
                    if self._drain:
                        tasks.create_task(self._stop_when_drained())
                    async for job in changes:
                        self._report(job)
                self._stopped = True
                self._flush_lines()
        self._print_notice(self._summary())
        self._flush_stdout()
        return 1 if self._drain and self._ended[State.DEAD] else 0

    def _print_banner(self) -> None:
        count = self._config.workers
        queues = f", queues {', '.join(self._queues)}" if self._queues else ""
        store = store_url.redacted(self._config.store)
        self._print_notice(f"aqueue {__version__}: {count} worker{'s'[: count != 1]} on {store}{queues}")
        self._print_notice("stop with Ctrl-C, or: aqueue worker stop")

    def _print_notice(self, text: str) -> None:
        """Print a line about the pool: on stdout among those about jobs, on stderr where stdout is JSON."""
        if self._as_json:
            with suppress(OSError):
                output.hint(text)
        else:
            self._print([printable(text)])

    def _progress_bar(self) -> "DrainBar | nullcontext[None]":
        if not (self._drain and sys.stdout.isatty() and not self._as_json):
            return nullcontext()
        from aqueue.cli.progress import DrainBar

        self._bar = DrainBar()
        return self._bar

    async def _stop_when_drained(self) -> None:
        await self._pool.drain()
        self._pool.request_stop()

    def _on_signal(self) -> None:
        """Stop gracefully at the first signal, and at once at the second."""
        if self._stopped:
            return
        self._signals += 1
        if self._signals > 1:
            self._pool.request_stop(now=True)
            return
        self._pool.request_stop()
        running = len(self._pool.workers.running_jobs())
        if running:
            commands = "1 command has" if running == 1 else f"{running} commands have"
            self._print_notice(f"stopping: {commands} up to {span(self._config.grace)} to end; Ctrl-C ends them now")

    def _report(self, job: Job) -> None:
        if job.state.final:
            self._ended[job.state] += 1
        text = self._format(job)
        if text is None:
            return
        if not self._unprinted:  # what happens together is written together
            if self._bar is None:
                asyncio.get_running_loop().call_soon(self._flush_lines)
            else:
                self._tasks.create_task(self._redraw())
        self._unprinted.append(text)

    async def _redraw(self) -> None:
        await asyncio.sleep(REDRAW_INTERVAL)  # a terminal need not show more
        with suppress(PoolGone):
            await self._update_bar()
        self._flush_lines()

    def _flush_lines(self) -> None:
        lines, self._unprinted = self._unprinted, []
        if lines:
            self._print(lines)

    async def _update_bar(self) -> None:
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
            # Nobody reads the output any more: stop gracefully, and let nothing else fail on it.
            _redirect_to_devnull(sys.stdout)
            self._pool.request_stop()
        except OSError:
            pass  # its disk is full: these lines are lost, and the jobs do not depend on them

    def _flush_stdout(self) -> None:
        """Give up what cannot be written: it is no failure of the pool."""
        try:
            sys.stdout.flush()
        except OSError:
            _redirect_to_devnull(sys.stdout)

    def _summary(self) -> str:
        parts = [f"{self._ended[state]} {state}" for state in (State.COMPLETED, State.DEAD, State.CANCELLED)]
        return f"{', '.join(parts)}, in {span(time.monotonic() - self._started_at)}"


def _redirect_to_devnull(stream: TextIO) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
