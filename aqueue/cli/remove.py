"""`aqueue remove`: forget jobs that have ended."""

from datetime import timedelta

import typer

from aqueue.cli import context, output
from aqueue.cli.options import IdsArgument, JsonOption, OlderOption, StateOption
from aqueue.control.requests import Find, Remove
from aqueue.errors import InvalidRequest
from aqueue.jobs.job import FINAL_STATES, State, utc_now

app = typer.Typer(rich_markup_mode="rich")


@app.command("remove")
def remove(
    ctx: typer.Context,
    job_ids: IdsArgument = None,
    state: StateOption = None,
    older_than: OlderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget jobs that have ended, with their output: these, or all in a state, or all older than some time."""
    by_filter = bool(state) or older_than is not None
    if bool(job_ids) is by_filter:
        raise InvalidRequest("give ids, or --state and --older-than" + (", not both" if job_ids else ""))
    if unfinished := [one.value for one in state or () if not one.final]:
        raise InvalidRequest(f"--state {unfinished[0]}: only jobs that have ended can be removed; cancel them first")
    request = Remove(ids=job_ids) if job_ids else remove_ended(state or sorted(FINAL_STATES), older_than)
    print_removed(ctx, request, as_json=as_json)


def remove_ended(states: list[State], older_than: float | None) -> Remove:
    """The request to remove all jobs in `states`, or only those that ended more than `older_than` seconds ago."""
    before = None if older_than is None else utc_now() - timedelta(seconds=older_than)
    return Remove(find=Find(states=states, finished_before=before))


def print_removed(ctx: typer.Context, request: Remove, *, as_json: bool) -> None:
    """Send the request, and print the ids of the jobs that are gone."""
    with context.connect(ctx) as client:
        removed = list(client.ids(request))
    if as_json:
        output.print_json(removed)
    else:
        output.print_lines(removed)
