"""`aqueue status`: the whole queue at a glance."""

import typer

from aqueue.cli import context, output, render
from aqueue.cli.options import JsonOption
from aqueue.control.requests import Overview, Slot
from aqueue.errors import printable
from aqueue.jobs.job import Job, State, utc_now
from aqueue.settings import store_url
from aqueue.settings.config import Config
from aqueue.store.pool_info import PoolInfo
from aqueue.units import relative

app = typer.Typer(rich_markup_mode="rich")


@app.command("status")
def status(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Count jobs by queue and state; show the pool, what it runs, and what is due next."""
    loaded = context.settings(ctx)
    with context.connect(ctx, loaded) as client:
        overview = client.overview()
    if as_json:
        output.print_json(record(overview, loaded.config))
        return
    rows = [_row(queue, counts) for queue, counts in sorted(overview.counts.items())]
    if len(rows) != 1:
        rows.append(_row("all", totals(overview)))
    output.print_lines(render.table(("QUEUE", *(state.value.upper() for state in State), ""), rows))
    store = printable(store_url.redacted(loaded.config.store))
    output.print_lines(["", f"store  {store}", *pool_lines(overview)])
    output.print_lines(slot_lines(overview.busy))
    if overview.next_due is not None:
        output.print_lines([_next_line(overview.next_due)])
    if overview.trouble:
        output.hint(f"trouble: {overview.trouble}")


def record(overview: Overview, config: Config) -> dict[str, object]:
    """An overview as scripts read it."""
    pools = "pools" if config.shared else "pool"
    return {
        "store": store_url.redacted(config.store),
        "counts": {state.value: count for state, count in totals(overview).items()},
        "queues": {
            queue: {state.value: counts.get(state, 0) for state in State} for queue, counts in overview.counts.items()
        },
        pools: pools_record(overview, shared=config.shared),
        "next_due": overview.next_due.record() if overview.next_due else None,
        "trouble": overview.trouble,
    }


def pools_record(overview: Overview, *, shared: bool) -> dict[str, object] | list[dict[str, object]] | None:
    """The pool and its busy slots, None without one; where hosts share the store, a list of all pools."""
    if not shared:
        return None if overview.pool is None else _pool_record(overview.pool, overview.busy)
    pools = []
    for pool in overview.pools:
        busy = [slot for slot in overview.busy if slot.job.history[-1].host == pool.host]
        pools.append({"host": pool.host, **_pool_record(pool, busy)})
    return pools


def _pool_record(pool: PoolInfo, busy: list[Slot]) -> dict[str, object]:
    return {
        "pid": pool.pid,
        "started_at": pool.started_at,
        "workers": pool.workers,
        "queues": pool.queues,
        "store": pool.store,
        "stopping": pool.stopping,
        "busy": [{"worker": slot.worker, "job": slot.job.record()} for slot in busy],
    }


def totals(overview: Overview) -> dict[State, int]:
    return {state: sum(counts.get(state, 0) for counts in overview.counts.values()) for state in State}


def _row(queue: str, counts: dict[State, int]) -> tuple[str, ...]:
    return (queue, *(str(counts.get(state, 0) or "-") for state in State), "")


def pool_lines(overview: Overview) -> list[str]:
    """A line for each pool that runs."""
    if overview.pools:
        return [_pool_line(pool, pool.name, pool.busy) for pool in overview.pools]
    if overview.pool is None:
        return ["pool   none runs: aqueue worker start"]
    return [_pool_line(overview.pool, f"pid {overview.pool.pid}", len(overview.busy))]


def _pool_line(pool: PoolInfo, name: str, busy: int) -> str:
    queues = f", queues {', '.join(pool.queues)}" if pool.queues else ""
    stopping = ", stopping" if pool.stopping else ""
    since = relative(pool.started_at, utc_now())
    return f"pool   {name}, started {since}, {busy} of {pool.workers} workers busy{queues}{stopping}"


def slot_lines(busy: list[Slot]) -> list[str]:
    """What each busy slot runs."""
    if not busy:
        return []
    now = utc_now()
    hosts = any(slot.job.history[-1].host for slot in busy)
    rows = [
        (
            *([slot.job.history[-1].host or ""] if hosts else []),
            *(str(slot.worker), slot.job.id, render.when(slot.job, now), render.command_of(slot.job)),
        )
        for slot in busy
    ]
    return ["", *render.table((*(["HOST"] if hosts else []), "SLOT", "ID", "RUNS", "COMMAND"), rows)]


def _next_line(job: Job) -> str:
    return f"next   {job.id}, due {relative(job.due_at, utc_now())}: {render.truncate(render.command_of(job), 60)}"
