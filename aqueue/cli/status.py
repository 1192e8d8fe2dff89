"""`aqueue status`: the whole queue at a glance."""

import typer

from aqueue.cli import render, session
from aqueue.cli.options import JsonOption
from aqueue.control.requests import Overview, Slot, Status
from aqueue.errors import printable
from aqueue.job import Job, State, utc_now
from aqueue.registry import PoolInfo
from aqueue.units import relative

app = typer.Typer(rich_markup_mode="rich")


@app.command("status")
def status(as_json: JsonOption = False) -> None:
    """Count jobs by queue and state; show the pool, what it runs, and what is due next."""
    loaded = session.settings()
    overview = ask_overview()
    if as_json:
        session.print_json(record(overview, loaded.config.store))
        return
    rows = [_row(queue, counts) for queue, counts in sorted(overview.counts.items())]
    if len(rows) != 1:
        rows.append(_row("all", totals(overview)))
    session.print_lines(render.table(("QUEUE", *(state.value.upper() for state in State), ""), rows))
    session.print_lines(["", f"store  {printable(loaded.config.store)}", pool_line(overview.pool, overview.busy)])
    session.print_lines(slot_lines(overview.busy))
    if overview.next_due is not None:
        session.print_lines([_next_line(overview.next_due)])
    if overview.trouble:
        session.hint(f"trouble: {overview.trouble}")


def ask_overview() -> Overview:
    with session.connect() as client:
        return next(part for part in client.ask(Status()) if isinstance(part, Overview))


def record(overview: Overview, store: str) -> dict[str, object]:
    """An overview as scripts read it."""
    return {
        "store": store,
        "counts": {state.value: count for state, count in totals(overview).items()},
        "queues": {
            queue: {state.value: counts.get(state, 0) for state in State} for queue, counts in overview.counts.items()
        },
        "pool": pool_record(overview),
        "next_due": overview.next_due.record() if overview.next_due else None,
        "trouble": overview.trouble,
    }


def pool_record(overview: Overview) -> dict[str, object] | None:
    """The pool and its busy slots, None without one."""
    pool = overview.pool
    if pool is None:
        return None
    return {
        "pid": pool.pid,
        "started_at": pool.started_at,
        "workers": pool.workers,
        "queues": pool.queues,
        "store": pool.store,
        "stopping": pool.stopping,
        "busy": [{"worker": slot.worker, "job": slot.job.record()} for slot in overview.busy],
    }


def totals(overview: Overview) -> dict[State, int]:
    return {state: sum(counts.get(state, 0) for counts in overview.counts.values()) for state in State}


def _row(queue: str, counts: dict[State, int]) -> tuple[str, ...]:
    return (queue, *(str(counts.get(state, 0) or "-") for state in State), "")


def pool_line(pool: PoolInfo | None, busy: list[Slot]) -> str:
    if pool is None:
        return "pool   none runs: aqueue worker start"
    queues = f", queues {', '.join(pool.queues)}" if pool.queues else ""
    stopping = ", stopping" if pool.stopping else ""
    since = relative(pool.started_at, utc_now())
    return f"pool   pid {pool.pid}, started {since}, {len(busy)} of {pool.workers} workers busy{queues}{stopping}"


def slot_lines(busy: list[Slot]) -> list[str]:
    """What each busy slot runs."""
    if not busy:
        return []
    now = utc_now()
    rows = [
        (str(slot.worker), slot.job.id, render.when(slot.job, now), render.one_line(slot.job))
        for slot in sorted(busy, key=lambda slot: slot.worker)
    ]
    return ["", *render.table(("SLOT", "ID", "RUNS", "COMMAND"), rows)]


def _next_line(job: Job) -> str:
    return f"next   {job.id}, due {relative(job.due_at, utc_now())}: {render.cut(render.one_line(job), 60)}"
