"""N workers over one store: recover, run, drain, stop.

A worker claims a job, runs its command and settles the result; the number of workers is a number of coroutines.
Before they begin, what an earlier pool left in `processing` is recovered: a command that still runs is adopted or
ended, one that ended meanwhile gets its result, and one that left no trace is queued again.
"""

import asyncio
import logging
from datetime import timedelta

from anyio import CancelScope, create_task_group, move_on_after
from anyio.abc import TaskGroup
from msgspec.structs import replace

from aqueue.attempts.files import AttemptFiles
from aqueue.attempts.orphans import Orphan, find_orphans
from aqueue.attempts.runner import Runner
from aqueue.attempts.running import RunningAttempt
from aqueue.attempts.token import Token
from aqueue.attempts.watchdog import end_commands
from aqueue.errors import StoreError
from aqueue.jobs.job import WAITING_STATES, Job, Outcome, State, utc_now
from aqueue.jobs.lifecycle import claimed
from aqueue.settings.config import Config
from aqueue.store.protocol import PoolStore, Query
from aqueue.system import raise_open_file_limit

_log = logging.getLogger("aqueue.pool")
_DESCRIPTORS = 1024
"""Open files beside those of commands, of which each takes up to four: above all connections."""
RETENTION_PAUSE = 60.0
"""Seconds between two removals of finished jobs, at the least."""


class Workers:
    """The workers of one pool."""

    def __init__(self, store: PoolStore, files: AttemptFiles, config: Config) -> None:
        self.store = store
        self.files = files
        self.config = config
        self.runner = Runner(store.run_id, files, config)
        self.stopping = False
        self._claims: dict[int, CancelScope] = {}
        self._group: TaskGroup | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._adopted: list[tuple[Job, int]] = []
        self._alive: set[int] = set()
        """The numbers of the workers that have not gone yet."""
        self._keep_changed = asyncio.Event()
        self._unwanted: set[str] = set()
        """Jobs that were cancelled in the moment in which a worker claimed them."""
        store.subscribe(files.remove_redundant)

    async def recover(self) -> None:
        """Deal with every job that an earlier pool left in `processing`."""
        left = [job async for part in self.store.orphaned_jobs() for job in part]
        running = find_orphans() if left or self.files.runs() else {}
        recorded = {job.history[-1].token for job in left}
        others = [(self.files.known(token), alive) for token, alive in running.items() if token not in recorded]
        strays = {attempt: alive for attempt, alive in others if attempt is not None}
        if left:
            async with create_task_group() as tasks:
                for job in left:
                    tasks.start_soon(self._recover_one, job, running.get(job.history[-1].token))
            if self._adopted:
                plural = "command" if len(self._adopted) == 1 else "commands"
                _log.info("adopted %d running %s of an earlier pool", len(self._adopted), plural)
        await self._recover_unrecorded(strays)
        if self.config.shared and strays:  # of attempts that were taken away while nobody watched over them here
            await asyncio.to_thread(end_commands, self.files, self.config.kill_after, recorded)
        await self.store.flush()
        keep = {attempt.run for job, _ in self._adopted if (attempt := self.files.known(job.history[-1].token))}
        self.files.remove_statuses(self.files.runs() - keep)

    async def _recover_unrecorded(self, strays: dict[Token, Orphan]) -> None:
        """Deal with attempts of waiting jobs: a claim survives the end of its pool, but not of one whose disk failed
        to sync it as well. One that has ended gets its result; one that runs is ended, and not run beside itself."""
        ended = {(token.seq, token.attempt): token for token in self.files.reported_tokens()}
        alive = {(token.seq, token.attempt): stray for token, stray in strays.items()}
        numbers = {seq for seq, _ in (*ended, *alive)}
        if not numbers:
            return
        async for part in self.store.find(Query(states=WAITING_STATES, seqs=frozenset(numbers))):
            for job in part:
                attempt = (job.seq, len(job.history) + 1)
                if attempt in ended:
                    token = ended[attempt]
                    began = self.files.find_status(str(token)).written_at or utc_now()
                    job = claimed(job, worker=token.slot, token=str(token), now=began)
                    await self.store.settle(
                        job, await self.runner.conclude(RunningAttempt(job, self.config.kill_after))
                    )
                elif attempt in alive:
                    await self.runner.end_orphan(RunningAttempt(job, self.config.kill_after), alive[attempt].processes)

    async def _recover_one(self, job: Job, alive: Orphan | None) -> None:
        command = RunningAttempt(job, self.config.kill_after)
        if alive is not None and self.files.find_status(job.history[-1].token).report.status is None:
            if alive.shell is not None and self.config.orphans == "adopt":
                self._adopted.append((job, alive.shell))
                return
            await self.runner.end_orphan(command, alive.processes)
        await self.store.settle(job, await self.runner.conclude(command))

    async def run(self, count: int) -> None:
        """Work with `count` workers until `stop`."""
        keeper = CancelScope()
        try:
            async with create_task_group() as tasks:
                tasks.start_soon(self._retain, keeper)
                async with create_task_group() as self._group:
                    self.resize(count)
                keeper.cancel()
        finally:
            if self._grace is not None:
                self._grace.cancel()
            self.runner.close()

    def configure(self, config: Config) -> None:
        """Take over settings: for what begins from now on."""
        self.config = self.runner.config = config
        self.files.limit = config.output_limit
        self.store.max_interruptions = config.max_interruptions
        self.resize(config.workers)
        self._keep_changed.set()

    def resize(self, count: int) -> None:
        """Change the number of workers; those who go finish what they run. Adopted commands run on with more of
        them than workers, and while the pool stops."""
        assert self._group is not None
        for number in [number for number in self._claims if number > count]:
            self._claims.pop(number).cancel()
        raise_open_file_limit(_DESCRIPTORS + 4 * count)
        if self.stopping:
            count = 0
        for number in range(1, max(count, len(self._adopted)) + 1):
            if number not in self._alive:
                self._alive.add(number)
                adopted = self._adopted[number - 1] if number <= len(self._adopted) else None
                self._claims[number] = CancelScope()
                self._group.start_soon(self._work, number, adopted, self._claims[number])
                if number > count:
                    self._claims.pop(number).cancel()
        self._adopted = []

    async def _work(self, number: int, adopted: tuple[Job, int] | None, claims: CancelScope) -> None:
        with CancelScope(shield=True):
            if adopted is not None:
                await self._settle(adopted[0], await self.runner.adopt(*adopted))
        with claims:
            while not claims.cancel_called:
                job = await self.store.claim(number)
                with CancelScope(shield=True):
                    await self._settle(job, await self._run(job))
        self._alive.discard(number)
        if not self.stopping:
            self.resize(self.config.workers)  # there may be as many workers again meanwhile

    async def _run(self, job: Job) -> Outcome | None:
        if job.id in self._unwanted:
            self._unwanted.remove(job.id)
            return Outcome(error="cancelled", cancelled=True)
        return await self.runner.run(job)

    async def _settle(self, job: Job, outcome: Outcome | None) -> None:
        self._unwanted.discard(job.id)  # that was about this attempt
        if outcome is not None:
            await self.store.settle(job, outcome)

    def stop(self, *, now: bool = False, leave_running: bool = False) -> None:
        """Claim nothing more. Running commands have `grace` seconds to end by themselves, none if `now`; then
        they are ended. With `leave_running` they go on for the next pool to adopt."""
        self.stopping = True
        for scope in self._claims.values():
            scope.cancel()
        if leave_running:
            self.runner.leave_all_running()
        elif now:
            self.runner.end_all()
        elif self._grace is None:
            self._grace = asyncio.get_running_loop().call_later(self.config.grace, self.runner.end_all)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job, ending its command if it runs. Raises `UnknownJob`, `InvalidRequest`."""
        if job_id not in self.runner.running:
            job = await self.store.get(job_id)
            if job.state is not State.PROCESSING or self.store.runs_elsewhere(job):
                return await self.store.cancel(job_id)
        self.cancel_running(job_id)
        return await self.store.wait(job_id)

    def cancel_running(self, name: str) -> None:
        """End the command of a job that a worker here has, or is just being given."""
        command = self.runner.running.get(name)
        if command is None:
            self._unwanted.add(name)
        else:
            command.end("cancelled", cancelled=True)

    def running_jobs(self) -> list[Job]:
        """The jobs whose commands run."""
        return [attempt.job for attempt in self.runner.running.values()]

    def live(self, job: Job) -> Job:
        """`job` as it is this moment: a running one with its process id and what it has printed so far."""
        command = self.runner.running.get(job.id)
        if command is None or job.state is not State.PROCESSING:
            return job
        history = (*job.history[:-1], replace(job.history[-1], pid=command.group))
        tail = self.files.tail
        return replace(job, history=history, stdout=tail(job, "out"), stderr=tail(job, "err"))

    async def _retain(self, scope: CancelScope) -> None:
        """Remove finished jobs that are older than `keep`, when the oldest of them is."""
        with scope:
            while True:
                self._keep_changed.clear()
                try:
                    pause = await self._expire()
                except StoreError:  # it has been reported, and old jobs can wait
                    pause = RETENTION_PAUSE
                with move_on_after(pause):
                    await self._keep_changed.wait()

    async def _expire(self) -> float:
        """Remove what has expired; return in how many seconds to look again."""
        now = utc_now()
        oldest = await self.store.prune(now - timedelta(seconds=self.config.keep), self.files.remove_output)
        return max(RETENTION_PAUSE, self.config.keep - (now - (oldest or now)).total_seconds())
