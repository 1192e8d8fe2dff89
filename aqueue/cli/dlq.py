"""`aqueue dlq`: the dead letter queue, where jobs with no retry left wait for a decision."""

from typing import Annotated

import typer

from aqueue.cli import context, output, render
from aqueue.cli.options import IdsArgument, JsonOption, OlderOption, QueueOption
from aqueue.cli.remove import DryRunOption, YesOption, remove_ended
from aqueue.control.requests import Find, Retry
from aqueue.jobs.job import State

app = typer.Typer(rich_markup_mode="rich")


@app.callback()
def dlq() -> None:
    """The dead letter queue: jobs that failed and have no retry left."""


@app.command("list")
def list_dead(
    ctx: typer.Context,
    queue: QueueOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many; all by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List dead jobs, and why they died."""
    found = context.jobs(ctx, Find(states=[State.DEAD], queue=queue, limit=limit, output=as_json))
    if as_json:
        output.print_records(found)
    elif jobs := list(found):
        output.print_lines(render.dead_table(jobs))
    else:
        output.hint("the dead letter queue is empty")


@app.command("retry")
def retry(
    ctx: typer.Context,
    job_ids: IdsArgument = None,
    all_jobs: Annotated[bool, typer.Option("--all", help="Every dead job.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put dead jobs back in their queue with a full new budget of attempts, and print their ids."""
    request = Retry(context.ids_or_all(job_ids, all_jobs))
    output.print_jobs(context.jobs(ctx, request), as_json=as_json)


@app.command("purge")
def purge(
    ctx: typer.Context,
    older_than: OlderOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove dead jobs for good, and print their ids. It asks first; where nobody can be asked, it needs --yes."""
    remove_ended(ctx, [State.DEAD], older_than, yes=yes, dry_run=dry_run, as_json=as_json)
