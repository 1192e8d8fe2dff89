"""`aqueue doctor`: check a store, and repair it."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from aqueue import layout
from aqueue.cli import context, output
from aqueue.errors import printable
from aqueue.settings import store_url
from aqueue.settings.config import Config

app = typer.Typer(rich_markup_mode="rich")


@app.command("doctor")
def doctor(
    ctx: typer.Context,
    repair: Annotated[
        bool, typer.Option("--repair", help="Keep what is readable, and move the rest to a directory of its own.")
    ] = False,
) -> None:
    """Check the store: its journal, its output files, and what a pool that died left behind; in a database its records,
    and pools that have stopped sending heartbeats.

    The exit status is 0 if all is well or was repaired, else 1. The store of a directory must have no running pool.
    """
    config = context.settings(ctx).config
    if config.shared:
        _check_database(config, repair=repair)
    else:
        _check_directory(config.folder, repair=repair)


def _check_database(config: Config, *, repair: bool) -> None:
    from aqueue.store.open import check_database

    problems, done, count = asyncio.run(check_database(config, repair=repair))
    output.print_lines(map(printable, problems))
    for line in done:
        output.hint(line)
    if not problems:
        output.hint(f"{store_url.redacted(config.store)} is whole: {_jobs(count)}")
    elif not done:
        output.hint(f"problems: {len(problems)}; aqueue doctor --repair queues again what silent pools had")
        raise typer.Exit(1)


def _check_directory(path: Path, *, repair: bool) -> None:
    from aqueue.errors import PoolRunning
    from aqueue.store.journal.integrity import IntegrityCheck
    from aqueue.system import ensure_private_directory, try_lock

    if not path.exists():
        output.hint(f"there is no store at {path}: nothing to check")
        return
    ensure_private_directory(path)
    if try_lock(path / layout.LOCK) is None:  # held until this process ends
        raise PoolRunning(f"a pool or another command has the store {path}: aqueue worker stop")
    found = IntegrityCheck(path)
    output.print_lines(map(printable, found.problems))
    if not found.problems:
        output.hint(f"{path} is whole: {_jobs(len(found.seqs))}")
    elif not repair:
        output.hint(f"problems: {len(found.problems)}; aqueue doctor --repair keeps what is readable")
        raise typer.Exit(1)
    else:
        aside = found.repair()
        output.hint(f"repaired: {_jobs(len(found.seqs))} in it" + (f"; the rest is in {aside}" if aside else ""))


def _jobs(count: int) -> str:
    return f"{count} job{'s'[: count != 1]}"
