"""`aqueue list`, `show` and `wait`: looking at jobs."""

import sys
from typing import Annotated

import typer

from aqueue.cli import context, output, render
from aqueue.cli.options import IdArgument, IdsArgument, JsonOption, QueueOption, StateOption, WaitTimeoutOption
from aqueue.control.requests import Find, Get
from aqueue.jobs.job import Job

app = typer.Typer(rich_markup_mode="rich")


@app.command("list")
def list_jobs(
    ctx: typer.Context,
    state: StateOption = None,
    queue: QueueOption = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Only jobs with this tag.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many; all by default.")] = None,
    newest: Annotated[bool, typer.Option("--newest", help="Newest first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List jobs, oldest first."""
    find = Find(states=state or [], queue=queue, tag=tag, limit=limit, newest=newest, output=as_json)
    found = context.jobs(ctx, find)
    if as_json:
        output.print_records(found)
    elif jobs := list(found):
        output.print_lines(render.job_table(jobs))
    else:
        output.hint("no jobs")


@app.command("show")
def show(ctx: typer.Context, job_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show everything about a job: its fields, its attempts, its output."""
    for job in context.jobs(ctx, Get([job_id])):
        if as_json:
            output.print_json(job.record())
        else:
            output.print_lines(render.details(job))


@app.command("wait")
def wait(
    ctx: typer.Context,
    job_ids: IdsArgument = None,
    all_jobs: Annotated[bool, typer.Option("--all", help="Every unfinished job.")] = False,
    timeout: WaitTimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Wait until jobs have ended; exit with the result of the first that did not succeed, or 0."""
    from aqueue.control.waiting import wait_for_jobs

    wanted = context.ids_or_all(job_ids, all_jobs)
    status = 0
    ended: list[Job] = []
    with context.connect(ctx) as client:
        for job in wait_for_jobs(client, wanted, timeout):
            status = status or output.exit_status(job)
            if as_json:
                ended.append(job)
            else:
                output.print_lines([f"{job.id} {job.state}"])
                sys.stdout.flush()
    if as_json:
        output.print_records(ended)
    raise typer.Exit(status)
