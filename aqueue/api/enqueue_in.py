"""Queueing a job inside an application's own transaction on PostgreSQL: it exists exactly if that commits."""

import os
from typing import TYPE_CHECKING, Any

from aqueue.jobs.job import Job
from aqueue.jobs.spec import JobSpec
from aqueue.settings.config import Config, load_config

if TYPE_CHECKING:
    import psycopg


async def enqueue_in(
    connection: "psycopg.AsyncConnection[Any]", job: JobSpec | str, *, config: Config | None = None, **fields: Any
) -> Job:
    """Queue a shell command with the transaction of `connection`, and return its job.

    That is the one that is open, or else the one that begins with this, as with any first statement: it ends with
    `connection.commit()` or `rollback()`. Only where `connection` is autocommit and no block is open, the job is there
    at once. What cursors and rows are on `connection` does not matter.

    `fields` are those of `JobSpec`, for a command given as text. Defaults come from `config`, or else from the
    environment and the config file; the store is the connection's database, whatever they say. A pool learns of the
    job when the transaction commits. Raises `InvalidJob`, `DuplicateJob` (what else is in the transaction stays), and
    what psycopg raises.
    """
    from aqueue.store.postgres import insert

    settings = load_config().config if config is None else config
    spec = job if isinstance(job, JobSpec) else JobSpec(command=job, **fields)
    await insert.begin_transaction(connection)
    async with connection.transaction():  # within an open one a savepoint
        new = spec.with_defaults(settings, os.getcwd())
        made, _ = await insert.add_jobs(connection, [new])
    return made[0]
