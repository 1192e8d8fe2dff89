"""A queue as an asyncio application sees it: the requests of the command line, as coroutines."""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterable

from msgspec import UNSET, UnsetType

from aqueue.control import requests
from aqueue.control.batches import JOBS_PER_REQUEST, enqueue_requests
from aqueue.control.requests import Ids, Jobs, Overview, Part, Request
from aqueue.jobs.fields import Directory, Environment, Names, Seconds, Time
from aqueue.jobs.job import Job, State
from aqueue.jobs.spec import JobSpec, NewJob
from aqueue.settings.config import Config


class Queue(ABC):
    """What `Pool` and `Connection` have in common. Errors are `AqueueError`s; what was awaited is durable."""

    config: Config

    @abstractmethod
    def _ask(self, *messages: Request) -> AsyncGenerator[Part, None]:
        """The parts of the answer to a request, of which a long batch has several messages."""

    @abstractmethod
    def events(self) -> AsyncIterator[Job]:
        """Every change of a job's state from now on, once it is durable, in the order in which they happened.

        The iteration ends when the pool that serves the queue has stopped.
        """

    async def enqueue(
        self,
        command: str,
        *,
        id: str | None = None,  # noqa: A002 - the field's name everywhere else
        queue: str | None = None,
        priority: int = 0,
        delay: Seconds | None = None,
        run_at: Time | None = None,
        timeout: Seconds | UnsetType | None = UNSET,  # noqa: ASYNC109 - the command's, not this call's
        max_retries: int | None = None,
        backoff_base: float | None = None,
        backoff_max: Seconds | None = None,
        backoff_jitter: float | None = None,
        cwd: Directory | None = None,
        env: Environment | None = None,
        tags: Names = (),
        if_absent: bool = False,
    ) -> Job:
        """Queue a shell command and return its job; see `JobSpec` for the fields.

        Raises `InvalidJob`, `DuplicateJob` (with `if_absent` the job that exists is returned), `StoreError`.
        """
        spec = JobSpec(
            command=command,
            id=id,
            queue=queue,
            priority=priority,
            delay=delay,
            run_at=run_at,
            timeout=timeout,
            max_retries=max_retries,
            backoff_base=backoff_base,
            backoff_max=backoff_max,
            backoff_jitter=backoff_jitter,
            cwd=cwd,
            env=env,
            tags=tags,
        )
        return (await self.enqueue_many([spec], if_absent=if_absent))[0]

    async def enqueue_many(self, jobs: Iterable[JobSpec | str], *, if_absent: bool = False) -> list[Job]:
        """Queue all of these or none, as one change; a string is a command."""
        cwd = os.getcwd()
        specs: list[NewJob] = []
        for job in jobs:
            specs.append((job if isinstance(job, JobSpec) else JobSpec(command=job)).with_defaults(self.config, cwd))
            if len(specs) % JOBS_PER_REQUEST == 0:  # others have a turn
                await asyncio.sleep(0)
        if not specs:
            return []
        return await self._jobs(*enqueue_requests(specs, if_absent=if_absent))

    async def get(self, job_id: str) -> Job:
        """The job, with its output. Raises `UnknownJob`."""
        return (await self._jobs(requests.Get([job_id])))[0]

    async def jobs(
        self,
        *states: State,
        queue: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        newest: bool = False,
        output: bool = False,
    ) -> AsyncIterator[Job]:
        """The jobs in these states (none named: all), oldest first; with what they printed if `output`."""
        find = requests.Find(list(states), queue=queue, tag=tag, limit=limit, newest=newest, output=output)
        async for part in self._ask(find):
            if isinstance(part, Jobs):
                for job in part.jobs:
                    yield job

    async def status(self) -> Overview:
        """Counts by queue and state, the pool and its busy slots, and what is due next."""
        parts = [part async for part in self._ask(requests.Status())]
        return next(part for part in parts if isinstance(part, Overview))

    async def counts(self) -> dict[State, int]:
        """How many jobs are in each state."""
        queues = (await self.status()).counts.values()
        return {state: sum(states.get(state, 0) for states in queues) for state in State}

    async def wait(self, job_id: str) -> Job:
        """The job once it has ended. Raises `UnknownJob`, `PoolGone`."""
        return (await self._jobs(requests.Wait([job_id])))[0]

    async def cancel(self, *job_ids: str) -> list[Job]:
        """Cancel jobs, ending the commands that run. Raises `UnknownJob`, `InvalidRequest`."""
        return await self._jobs(requests.Cancel(list(job_ids)))

    async def retry(self, *job_ids: str) -> list[Job]:
        """Put dead or cancelled jobs back with a full budget of retries. Raises `UnknownJob`, `InvalidRequest`."""
        return await self._jobs(requests.Retry(list(job_ids))) if job_ids else []

    async def remove(self, *job_ids: str) -> list[str]:
        """Forget jobs and what they printed. Raises `UnknownJob`, `InvalidRequest` if one is running."""
        parts = [part async for part in self._ask(requests.Remove(list(job_ids)))]
        return [job_id for part in parts if isinstance(part, Ids) for job_id in part.ids]

    async def _jobs(self, *messages: Request) -> list[Job]:
        return [job async for part in self._ask(*messages) if isinstance(part, Jobs) for job in part.jobs]
