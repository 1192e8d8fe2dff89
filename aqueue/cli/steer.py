"""`aqueue cancel` and `remove`: ending jobs and forgetting them."""

from datetime import timedelta

import typer

from aqueue.cli import session
from aqueue.cli.options import IdsArgument, JsonOption, OlderOption, StateOption
from aqueue.control.requests import Cancel, Find, Remove
from aqueue.errors import InvalidRequest
from aqueue.jobs.job import FINAL_STATES, State, utc_now

app = typer.Typer(rich_markup_mode="rich")


@app.command("cancel")
def cancel(job_ids: IdsArgument = None, as_json: JsonOption = False) -> None:
    """Cancel jobs: a waiting one at once, a running one through its process group."""
    if not job_ids:
        raise InvalidRequest("no job given: give the ids of the jobs to cancel")
    jobs = session.ask_jobs(Cancel(job_ids))
    if as_json:
        session.print_records(jobs)
    else:
        session.print_lines(job.id for job in jobs)


@app.command("remove")
def remove(
    job_ids: IdsArgument = None,
    state: StateOption = None,
    older_than: OlderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget jobs that have ended, with their output: these, or all in a state, or all older than some time."""
    if bool(job_ids) is bool(state or older_than is not None):
        raise InvalidRequest("give ids, or --state and --older-than" + (", not both" if job_ids else ""))
    if unfinished := [one.value for one in state or () if not one.final]:
        raise InvalidRequest(f"--state {unfinished[0]}: only jobs that have ended can be removed; cancel them first")
    print_removed(job_ids or [], state or sorted(FINAL_STATES), older_than, as_json)


def print_removed(ids: list[str], states: list[State], older_than: float | None, as_json: bool) -> None:
    """Remove these jobs, or all in `states` that ended `older_than` seconds ago, and print their ids."""
    before = None if older_than is None else utc_now() - timedelta(seconds=older_than)
    find = None if ids else Find(states=states, finished_before=before)
    with session.connect() as client:
        removed = session.ids_in(client.ask(Remove(ids=ids, find=find)))
        if as_json:
            session.print_json(list(removed))
        else:
            session.print_lines(removed)
