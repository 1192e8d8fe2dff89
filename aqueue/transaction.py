"""Queueing a job inside an application's own transaction on PostgreSQL: it exists exactly if that commits."""

import os
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from aqueue.config import Config, load_config
from aqueue.job import Job
from aqueue.spec import JobSpec

if TYPE_CHECKING:
    import psycopg


async def enqueue_in(
    connection: "psycopg.AsyncConnection[Any]", job: JobSpec | str, *, config: Config | None = None, **fields: Any
) -> Job:
    """Queue a shell command with the transaction that is open on `connection`, and return its job.

    `fields` are those of `JobSpec`, for a command given as text. Defaults come from `config`, or else from the
    environment and the config file; the store is the connection's database, whatever they say. A pool learns of the
    job when the transaction commits. Raises `InvalidJob`, `DuplicateJob` (the transaction is then as it was before),
    and what psycopg raises.
    """
    from aqueue.store.postgres import adding

    settings = load_config().config if config is None else config
    spec = JobSpec(command=job, **fields) if isinstance(job, str) else job
    if spec.cwd is not None:
        spec = replace(spec, cwd=os.path.join(os.getcwd(), spec.cwd))
    async with connection.transaction():  # within an open one a savepoint
        made, _ = await adding.add(connection, [spec.stamped(settings.job_defaults(os.getcwd()))])
    return made[0]
