"""What an earlier pool left behind, dealt with before the first worker claims a job.

A job in `processing` has an attempt whose pool is gone. A command that still runs is adopted, or ended where the
settings say so; one that ended meanwhile gets its result; and if nothing tells how it ended, the job is queued again.
Nothing runs twice at once: a job is queued again only when all processes of its attempt have ended.
"""

import asyncio
import logging
from typing import NamedTuple

from anyio import create_task_group

from aqueue.attempts.files import AttemptFiles
from aqueue.attempts.orphans import Orphan, find_orphans
from aqueue.attempts.runner import Runner
from aqueue.attempts.running import RunningAttempt
from aqueue.attempts.token import Token
from aqueue.attempts.watchdog import end_commands
from aqueue.jobs.job import WAITING_STATES, Job, utc_now
from aqueue.jobs.lifecycle import claimed
from aqueue.settings.config import Config
from aqueue.store.protocol import PoolStore, Query

_log = logging.getLogger("aqueue.pool")


class Adoptable(NamedTuple):
    """A job whose command still runs, for a worker to adopt."""

    job: Job
    shell_pid: int
    """The command's outer shell, which leads its process group."""


class Recovery:
    """The recovery of one store by the pool that has just opened it."""

    def __init__(self, store: PoolStore, files: AttemptFiles, runner: Runner, config: Config) -> None:
        self._store = store
        self._files = files
        self._runner = runner
        self._config = config
        self._adoptable: list[Adoptable] = []

    async def run(self) -> list[Adoptable]:
        """Deal with every job that an earlier pool left in `processing`; return those whose commands run on.

        Raises `StoreError`.
        """
        jobs = [job async for part in self._store.orphaned_jobs() for job in part]
        orphans = find_orphans() if jobs or self._files.runs() else {}
        recorded = {job.history[-1].token for job in jobs}
        if jobs:
            async with create_task_group() as tasks:
                for job in jobs:
                    tasks.start_soon(self._recover, job, orphans.get(job.history[-1].token))
            if self._adoptable:
                plural = "command" if len(self._adoptable) == 1 else "commands"
                _log.info("adopted %d running %s of an earlier pool", len(self._adoptable), plural)
        unrecorded = {
            attempt: orphan
            for token, orphan in orphans.items()
            if token not in recorded and (attempt := self._files.known(token)) is not None
        }
        await self._recover_unrecorded(unrecorded)
        if self._config.shared and unrecorded:  # another host took these jobs over while no watchdog was here
            await asyncio.to_thread(end_commands, self._files, self._config.kill_after, recorded)
        await self._store.flush()
        self._remove_statuses()
        return self._adoptable

    async def _recover(self, job: Job, orphan: Orphan | None) -> None:
        """Adopt what runs of a job in `processing`, or settle it."""
        attempt = self._attempt(job)
        if orphan is not None and self._files.find_status(attempt.token).report.status is None:
            if orphan.shell is not None and self._config.orphans == "adopt":
                self._adoptable.append(Adoptable(job, orphan.shell))
                return
            await self._runner.end_orphan(attempt, orphan.processes)
        await self._store.settle(job, await self._runner.conclude(attempt))

    async def _recover_unrecorded(self, orphans: dict[Token, Orphan]) -> None:
        """Deal with attempts of jobs that wait, as far as the store knows.

        A claim survives the end of its pool, but not that of a pool whose disk failed to sync it as well. An attempt
        that has ended gets its result; one that runs is ended, so that the job does not run twice at once.
        """
        ended = {(token.seq, token.attempt): token for token in self._files.reported_tokens()}
        running = {(token.seq, token.attempt): orphan for token, orphan in orphans.items()}
        seqs = frozenset(seq for seq, _ in (*ended, *running))
        if not seqs:
            return
        async for part in self._store.find(Query(states=WAITING_STATES, seqs=seqs)):
            for job in part:
                next_attempt = (job.seq, len(job.history) + 1)
                if next_attempt in ended:
                    await self._settle_unrecorded(job, ended[next_attempt])
                elif next_attempt in running:
                    await self._runner.end_orphan(self._attempt(job), running[next_attempt].processes)

    async def _settle_unrecorded(self, job: Job, token: Token) -> None:
        """Claim `job` after the fact, and settle it."""
        began = self._files.find_status(str(token)).written_at or utc_now()
        job = claimed(job, worker=token.slot, token=str(token), now=began)
        await self._store.settle(job, await self._runner.conclude(self._attempt(job)))

    def _remove_statuses(self) -> None:
        """Remove the status files of earlier pools, but for those that adopted commands will still write to."""
        tokens = (self._files.known(job.history[-1].token) for job, _ in self._adoptable)
        self._files.remove_statuses(self._files.runs() - {token.run for token in tokens if token is not None})

    def _attempt(self, job: Job) -> RunningAttempt:
        return RunningAttempt(job, self._config.kill_after)
