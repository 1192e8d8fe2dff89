"""What every command shares: the options that say which queue is meant, its settings, and asking it."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_command_from_info
from typer.models import CommandInfo

from aqueue.control.requests import Request
from aqueue.errors import InvalidRequest
from aqueue.jobs.job import Job
from aqueue.settings.config import Loaded, load_config

if TYPE_CHECKING:
    from aqueue.control.client import Client

_CONFIG, _STORE = "aqueue.config", "aqueue.store"
"""Where `ctx.meta` keeps what the two options said: a command and its groups have one `meta` in common."""


def _keep_config(ctx: typer.Context, value: Path | None) -> None:
    if value is not None:
        ctx.meta[_CONFIG] = value


def _keep_store(ctx: typer.Context, value: str | None) -> None:
    if value is not None:
        ctx.meta[_STORE] = value


def _options(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="The config file to use.", callback=_keep_config, expose_value=False
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="PATH",
            help="Where the jobs live: a directory, or a database URL.",
            callback=_keep_store,
            expose_value=False,
        ),
    ] = None,
) -> None:
    """Only its parameters count: they are accepted before and after every command."""


@cache
def option_parameters() -> tuple[Any, ...]:
    """`--config` and `--store`, to be added to a command."""
    info = CommandInfo(callback=_options)
    return tuple(get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode=None).params)


def config_file(ctx: typer.Context) -> Path | None:
    """What `--config` says."""
    file: Path | None = ctx.meta.get(_CONFIG)
    return file


def settings(ctx: typer.Context, **flags: object) -> Loaded:
    """The settings in force, `flags` of the command over all others. Raises `InvalidConfig`."""
    return load_config(config_file(ctx), {"store": ctx.meta.get(_STORE), **flags})


def connect(ctx: typer.Context, loaded: Loaded | None = None) -> "Client":
    """A client of the queue, whether a pool runs or not. To be used in a `with`."""
    from aqueue.control.client import Client

    return Client((loaded or settings(ctx)).config)


def jobs(ctx: typer.Context, request: Request) -> Iterator[Job]:
    """Send a request, and yield the jobs of its answer as they come."""
    with connect(ctx) as client:
        yield from client.jobs(request)


def ids_or_all(ids: list[str] | None, everything: bool) -> list[str]:
    """The ids, or none where `--all` was given. Raises `InvalidRequest` unless exactly one of them was."""
    if bool(ids) is everything:
        raise InvalidRequest("give ids or --all" + (", not both" if everything else ""))
    return ids or []
