"""`aqueue doctor`: whether the store is whole, and mending it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aqueue.cli import session
from aqueue.errors import printable

if TYPE_CHECKING:
    from aqueue.store.checkup import Checkup

app = typer.Typer(rich_markup_mode="rich")


@app.command("doctor")
def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="Keep what is readable, and put the rest aside, in a directory.")
    ] = False,
) -> None:
    """Check the store: journal, output files, and what a pool that is gone left behind.

    The exit status is 0 if all is well or was mended, else 1. No pool may be running.
    """
    from aqueue.errors import InvalidRequest, PoolRunning
    from aqueue.platform import private_directory, try_lock
    from aqueue.store.checkup import Checkup

    store = session.settings().config.store
    if "://" in store:
        raise InvalidRequest(f"{store} is no directory: only a store in a directory can be checked")
    path = Path(store)
    if not path.exists():
        session.hint(f"there is no store at {path}: nothing to check")
        return
    private_directory(path)
    if try_lock(path / "lock") is None:  # held until this process ends
        raise PoolRunning(f"a pool or another command has the store {path}: aqueue worker stop")
    found = Checkup(path)
    session.print_lines(map(printable, found.problems))
    if not found.problems:
        session.hint(f"{path} is whole: {_jobs(found)}")
    elif not repair:
        session.hint(f"problems: {len(found.problems)}; aqueue doctor --repair keeps what is readable")
        raise typer.Exit(1)
    else:
        aside = found.repair()
        session.hint(f"mended: {_jobs(found)} in it" + (f"; the rest is in {aside}" if aside else ""))


def _jobs(found: "Checkup") -> str:
    count = len(found.seqs)
    return f"{count} job{'s'[: count != 1]}"
