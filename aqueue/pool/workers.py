"""N workers over one store: claim a job, run its command, settle the result.

A worker is a coroutine with a number, its slot. The number of workers can change while they work, and stopping them is
claiming nothing more: a command that runs is waited for, ended or left running, but never dropped.
"""

import asyncio
from collections.abc import Sequence

from anyio import CancelScope, create_task_group
from anyio.abc import TaskGroup
from msgspec.structs import replace

from aqueue.attempts.files import AttemptFiles
from aqueue.attempts.runner import Runner
from aqueue.jobs.job import Job, Outcome, State
from aqueue.pool.recovery import Adoptable
from aqueue.settings.config import Config
from aqueue.store.protocol import PoolStore
from aqueue.system import raise_open_file_limit

_OPEN_FILES = 1024
"""Open files beside those of commands, above all connections."""
_OPEN_FILES_PER_COMMAND = 4


class Workers:
    """The workers of one pool."""

    def __init__(self, store: PoolStore, files: AttemptFiles, runner: Runner, config: Config) -> None:
        self.store = store
        self.runner = runner
        self._files = files
        self._config = config
        self._stopping = False
        self._slots: set[int] = set()
        """The numbers of the workers that have not ended yet."""
        self._claim_scopes: dict[int, CancelScope] = {}
        """By slot: cancelled, its worker claims nothing more."""
        self._adoptable: list[Adoptable] = []
        self._tasks: TaskGroup | None = None
        self._grace_timer: asyncio.TimerHandle | None = None
        self._cancelled_while_claimed: set[str] = set()
        """The ids of jobs that were cancelled in the moment in which a worker claimed them."""
        store.subscribe(files.remove_redundant)

    async def run(self, count: int, adoptable: Sequence[Adoptable] = ()) -> None:
        """Work with `count` workers until `stop`, which first adopt what an earlier pool left running."""
        self._adoptable = list(adoptable)
        try:
            async with create_task_group() as self._tasks:
                self.resize(count)
        finally:
            if self._grace_timer is not None:
                self._grace_timer.cancel()
            self.runner.close()

    def configure(self, config: Config) -> None:
        """Take over settings, for what begins from now on."""
        self._config = self.runner.config = config
        self._files.limit = config.output_limit
        self.store.max_interruptions = config.max_interruptions
        self.resize(config.workers)

    def resize(self, count: int) -> None:
        """Change the number of workers; those that end finish what they run first. Adopted commands have a worker
        each, even if that is more than `count`, and also while the pool stops."""
        assert self._tasks is not None
        for slot in [slot for slot in self._claim_scopes if slot > count]:
            self._claim_scopes.pop(slot).cancel()
        raise_open_file_limit(_OPEN_FILES + _OPEN_FILES_PER_COMMAND * count)
        if self._stopping:
            count = 0
        adoptable, self._adoptable = self._adoptable, []
        for slot in range(1, max(count, len(adoptable)) + 1):
            if slot not in self._slots:
                self._slots.add(slot)
                scope = CancelScope()
                if slot <= count:
                    self._claim_scopes[slot] = scope
                else:
                    scope.cancel()
                self._tasks.start_soon(self._work, slot, adoptable[slot - 1] if slot <= len(adoptable) else None, scope)

    async def _work(self, slot: int, adoptable: Adoptable | None, claiming: CancelScope) -> None:
        with CancelScope(shield=True):
            if adoptable is not None:
                await self._settle(adoptable.job, await self.runner.adopt(*adoptable))
        with claiming:
            while not claiming.cancel_called:
                job = await self.store.claim(slot)
                with CancelScope(shield=True):
                    await self._settle(job, await self._run(job))
        self._slots.discard(slot)
        if not self._stopping:
            self.resize(self._config.workers)  # the setting may have grown again meanwhile

    async def _run(self, job: Job) -> Outcome | None:
        if job.id in self._cancelled_while_claimed:
            self._cancelled_while_claimed.remove(job.id)
            return Outcome(error="cancelled", cancelled=True)
        return await self.runner.run(job)

    async def _settle(self, job: Job, outcome: Outcome | None) -> None:
        self._cancelled_while_claimed.discard(job.id)  # that was about this attempt
        if outcome is not None:
            await self.store.settle(job, outcome)

    def stop(self, *, now: bool = False, leave_running: bool = False) -> None:
        """Claim nothing more. Running commands have `grace` seconds to end by themselves, none if `now`; then they are
        ended. With `leave_running` they run on for the next pool to adopt."""
        self._stopping = True
        for scope in self._claim_scopes.values():
            scope.cancel()
        if leave_running:
            self.runner.leave_all_running()
        elif now:
            self.runner.end_all()
        elif self._grace_timer is None:
            self._grace_timer = asyncio.get_running_loop().call_later(self._config.grace, self.runner.end_all)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job, ending its command if it runs. Raises `UnknownJob`, `InvalidRequest`."""
        if job_id not in self.runner.running:
            job = await self.store.get(job_id)
            if job.state is not State.PROCESSING or self.store.runs_elsewhere(job):
                return await self.store.cancel(job_id)
        self.cancel_running(job_id)
        return await self.store.wait(job_id)

    def cancel_running(self, job_id: str) -> None:
        """End the command of a job that a worker here runs, or has just claimed."""
        attempt = self.runner.running.get(job_id)
        if attempt is None:
            self._cancelled_while_claimed.add(job_id)
        else:
            attempt.end("cancelled", cancelled=True)

    def running_jobs(self) -> list[Job]:
        """The jobs whose commands run."""
        return [attempt.job for attempt in self.runner.running.values()]

    def live(self, job: Job) -> Job:
        """`job` as it is this moment: a running one with its process id and what it has printed so far."""
        attempt = self.runner.running.get(job.id)
        if attempt is None or job.state is not State.PROCESSING:
            return job
        history = (*job.history[:-1], replace(job.history[-1], pid=attempt.group))
        tail = self._files.tail
        return replace(job, history=history, stdout=tail(job, "out"), stderr=tail(job, "err"))
