"""`aqueue remove`: forget jobs that have ended. Who names no ids is asked first, because nothing brings them back."""

import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated

import typer

from aqueue.cli import context, output
from aqueue.cli.options import IdsArgument, JsonOption, OlderOption, StateOption
from aqueue.control.requests import Find, Remove
from aqueue.errors import InvalidRequest
from aqueue.jobs.job import EXPIRING_STATES, State, utc_now

app = typer.Typer(rich_markup_mode="rich")

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the ids of what would go, and remove nothing.")]


@app.command("remove")
def remove(
    ctx: typer.Context,
    job_ids: IdsArgument = None,
    state: StateOption = None,
    older_than: OlderOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Forget jobs that have ended, with their output: these, or all in a state, or all older than some time.

    Without --state these are completed and cancelled jobs: dead ones wait for somebody's decision.
    """
    by_filter = bool(state) or older_than is not None
    if bool(job_ids) is by_filter:
        raise InvalidRequest("give ids, or --state and --older-than" + (", not both" if job_ids else ""))
    if unfinished := [one.value for one in state or () if not one.final]:
        raise InvalidRequest(f"--state {unfinished[0]}: only jobs that have ended can be removed; cancel them first")
    if not job_ids:
        remove_ended(ctx, state or sorted(EXPIRING_STATES), older_than, yes=yes, dry_run=dry_run, as_json=as_json)
        return
    if dry_run:
        raise InvalidRequest("--dry-run shows what --state and --older-than choose: ids say it themselves")
    with context.connect(ctx) as client:
        _print_ids(client.ids(Remove(ids=job_ids)), as_json=as_json)


def remove_ended(
    ctx: typer.Context, states: list[State], older_than: float | None, *, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Remove all jobs in `states`, or only those that ended `older_than` seconds ago; print their ids.

    Unless `yes`, somebody at a terminal is asked, and anybody else gets `InvalidRequest`. With `dry_run` nothing is
    removed.
    """
    before = None if older_than is None else utc_now() - timedelta(seconds=older_than)
    chosen = Find(states=states, finished_before=before)
    with context.connect(ctx) as client:
        if dry_run:
            _print_ids((job.id for job in client.jobs(chosen)), as_json=as_json)
            return
        if not yes:
            _confirm(sum(1 for _ in client.jobs(chosen)), states)
        _print_ids(client.ids(Remove(find=chosen)), as_json=as_json)


def _confirm(count: int, states: list[State]) -> None:
    """Ask whether so many jobs may go. Raises `typer.Abort` if they may not, `InvalidRequest` where nobody is asked."""
    jobs = f"{count} {' or '.join(states)} job{'s'[: count != 1]}"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidRequest(f"this would remove {jobs} for good: say --yes to do so, --dry-run to see which")
    if count:
        # typer's own prompt prints a blank on stdout, where nothing but data may be.
        sys.stderr.write(f"Remove {jobs}, with their output, for good? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise typer.Abort


def _print_ids(ids: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        output.print_json(list(ids))
    else:
        output.print_lines(ids)
