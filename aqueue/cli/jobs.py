"""`aqueue list`, `show` and `wait`: looking at jobs."""

import sys
from typing import Annotated

import typer

from aqueue.cli import render, session
from aqueue.cli.options import IdArgument, IdsArgument, JsonOption, PatienceOption, QueueOption, StateOption
from aqueue.control.requests import Find, Get
from aqueue.jobs.job import Job

app = typer.Typer(rich_markup_mode="rich")


@app.command("list")
def list_jobs(
    state: StateOption = None,
    queue: QueueOption = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Only jobs with this tag.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="No more than this many; all without it.")] = None,
    newest: Annotated[bool, typer.Option("--newest", help="Latest first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List jobs, oldest first."""
    found = session.ask_jobs(Find(states=state or [], queue=queue, tag=tag, limit=limit, newest=newest, output=as_json))
    if as_json:
        session.print_records(found)
    elif jobs := list(found):
        session.print_lines(render.job_table(jobs))
    else:
        session.hint("no jobs")


@app.command("show")
def show(job_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show everything about a job: its fields, its attempts, its output."""
    for job in session.ask_jobs(Get([job_id])):
        if as_json:
            session.print_json(job.record())
        else:
            session.print_lines(render.details(job))


@app.command("wait")
def wait(
    job_ids: IdsArgument = None,
    all_jobs: Annotated[bool, typer.Option("--all", help="Every unfinished job.")] = False,
    timeout: PatienceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Wait until jobs have ended; exit with the result of the first that did not succeed, or 0."""
    wanted = session.one_of(job_ids, all_jobs, "--all")
    status = 0
    ended: list[Job] = []
    with session.connect() as client:
        for job in client.wait(wanted, timeout):
            status = status or session.exit_status(job)
            if as_json:
                ended.append(job)
            else:
                session.print_lines([f"{job.id} {job.state}"])
                sys.stdout.flush()
    if as_json:
        session.print_records(ended)
    raise typer.Exit(status)
