"""`aqueue worker`: run the pool in the foreground, stop one from another terminal, see what it does."""

from enum import StrEnum
from typing import Annotated

import typer

from aqueue.cli import context, output
from aqueue.cli.completion import complete_queues
from aqueue.cli.options import JsonOption, WaitTimeoutOption, duration
from aqueue.errors import InvalidRequest

app = typer.Typer(rich_markup_mode="rich")


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


@app.callback()
def worker() -> None:
    """The worker pool: start it here, stop or watch it from anywhere."""


@app.command("start")
def start(
    ctx: typer.Context,
    count: Annotated[
        int | None, typer.Option("--count", "-c", min=1, max=10_000, help="How many jobs run at the same time.")
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Run jobs of this queue only; may be repeated.", autocompletion=complete_queues
        ),
    ] = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="End when no job is due, running or waiting for a retry.")
    ] = False,
    grace: Annotated[
        float | None,
        typer.Option(metavar="DURATION", parser=duration, help="How long commands may go on after a stop."),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="How starts and ends of jobs are printed.")] = LogFormat.TEXT,
) -> None:
    """Run jobs in this terminal until Ctrl-C, or with --drain until none is left."""
    from aqueue.cli.foreground import run_pool

    loaded = context.settings(ctx, workers=count, grace=grace)
    as_json = log_format is LogFormat.JSON
    raise typer.Exit(run_pool(loaded.config, queue or [], drain=drain, as_json=as_json))


@app.command("stop")
def stop(
    ctx: typer.Context,
    pool: Annotated[
        str | None, typer.Argument(metavar="HOST/PID", help="A pool of any host that shares the database.")
    ] = None,
    everywhere: Annotated[bool, typer.Option("--all", help="The pools of all hosts that share the database.")] = False,
    now: Annotated[bool, typer.Option("--now", help="End running commands at once.")] = False,
    leave_running: Annotated[
        bool, typer.Option("--leave-running", help="Leave commands running; the next pool adopts them.")
    ] = False,
    timeout: WaitTimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop the running pool of this host, and wait until it is gone."""
    if pool and everywhere:
        raise InvalidRequest("give HOST/PID or --all, not both")
    from aqueue.control.stopping import stop_pool, stop_pools

    by_name = bool(pool or everywhere)
    with context.connect(ctx) as client:
        if by_name:
            stopped = stop_pools(client, pool, now=now, leave_running=leave_running, timeout=timeout)
        else:
            here = stop_pool(client, now=now, leave_running=leave_running, timeout=timeout)
            stopped = [here] if here else []
    if as_json:
        output.print_json({"stopped": stopped if by_name else stopped[0] if stopped else None})
    elif not stopped:
        output.hint("no pool runs on this store: nothing to stop")
    elif by_name:
        output.hint("stopped: " + ", ".join(each.name for each in stopped))
    else:
        output.hint(f"the pool (pid {stopped[0].pid}) has stopped")


@app.command("status")
def status(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show the running pool (on a database those of all hosts): since when it runs, its workers, and what each runs."""
    from aqueue.cli.status import pool_lines, pools_record, slot_lines

    with context.connect(ctx) as client:
        overview = client.overview()
    if as_json:
        output.print_json(pools_record(overview, shared=client.config.shared))
    else:
        output.print_lines([*pool_lines(overview), *slot_lines(overview.busy)])
