"""`aqueue cancel`: end jobs, whether they wait or run."""

import typer

from aqueue.cli import context, output
from aqueue.cli.options import IdsArgument, JsonOption
from aqueue.control.requests import Cancel
from aqueue.errors import InvalidRequest

app = typer.Typer(rich_markup_mode="rich")


@app.command("cancel")
def cancel(ctx: typer.Context, job_ids: IdsArgument = None, as_json: JsonOption = False) -> None:
    """Cancel jobs: a waiting one at once, a running one through its process group."""
    if not job_ids:
        raise InvalidRequest("no job given: give the ids of the jobs to cancel")
    output.print_jobs(context.jobs(ctx, Cancel(job_ids)), as_json=as_json)
