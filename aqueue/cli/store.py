"""`aqueue store`: the database of a queue that many hosts share."""

import asyncio

import typer

from aqueue.cli import context, output
from aqueue.errors import InvalidRequest
from aqueue.settings import store_url

app = typer.Typer(rich_markup_mode="rich")


@app.callback()
def store() -> None:
    """The database of a queue that many hosts share."""


@app.command("init")
def init(ctx: typer.Context) -> None:
    """Make the tables of the queue, or bring them to this version. A pool does the same when it starts."""
    config = context.settings(ctx).config
    if not config.shared:
        raise InvalidRequest(f"{config.store} is a directory, which needs no preparation: --store postgresql://…")
    from aqueue.store.open import prepare_database

    before, after = asyncio.run(prepare_database(config))
    was = "as it was" if before == after else f"before: version {before}" if before else "new"
    output.hint(f"{store_url.redacted(config.store)} holds a queue of version {after} ({was})")
