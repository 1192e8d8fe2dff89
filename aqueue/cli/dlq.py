"""`aqueue dlq`: the dead letter queue, where jobs wait for somebody's decision when no retry is left."""

import sys
from typing import Annotated

import typer

from aqueue.cli import render, session
from aqueue.cli.options import IdsArgument, JsonOption, OlderOption, QueueOption
from aqueue.cli.steer import print_removed
from aqueue.control.requests import Find, Retry
from aqueue.jobs.job import State

app = typer.Typer(rich_markup_mode="rich")


@app.callback()
def dlq() -> None:
    """The dead letter queue: jobs that failed and have no retry left."""


@app.command("list")
def list_dead(
    queue: QueueOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="No more than this many; all without it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List dead jobs, and why they died."""
    found = session.ask_jobs(Find(states=[State.DEAD], queue=queue, limit=limit, output=as_json))
    if as_json:
        session.print_records(found)
    elif jobs := list(found):
        session.print_lines(render.dead_table(jobs))
    else:
        session.hint("the dead letter queue is empty")


@app.command("retry")
def retry(
    job_ids: IdsArgument = None,
    all_jobs: Annotated[bool, typer.Option("--all", help="Every dead job.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put dead jobs back in their queue with a full new budget of attempts, and print their ids."""
    jobs = session.ask_jobs(Retry(session.one_of(job_ids, all_jobs, "--all")))
    if as_json:
        session.print_records(jobs)
    else:
        session.print_lines(job.id for job in jobs)


@app.command("purge")
def purge(
    older_than: OlderOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove dead jobs for good, and print their ids. On a terminal it asks first."""
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        typer.confirm("Remove the dead jobs, with their output, for good?", abort=True, err=True)
    print_removed([], [State.DEAD], older_than, as_json)
