"""What every command shares: the options that say which queue is meant, its settings, and asking it."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from typer.main import get_command_from_info
from typer.models import CommandInfo

from aqueue.control.requests import Ids, Jobs, Part, Request
from aqueue.errors import AqueueError, InvalidRequest, printable
from aqueue.jobs.job import Job, State
from aqueue.settings.config import Loaded, load_config

if TYPE_CHECKING:
    from aqueue.control.client import Client

_given: dict[str, Any] = {}


def _remember(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    if value is not None and param.name:
        _given[param.name] = value
    return value


def _options(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="The config file to use.", callback=_remember, expose_value=False
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="PATH", help="Where the jobs live.", callback=_remember, expose_value=False),
    ] = None,
) -> None:
    """Only its parameters count: they are accepted before and after every command."""


def option_parameters() -> list[Any]:
    """`--config` and `--store`, to be added to a command."""
    info = CommandInfo(callback=_options)
    return list(get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode=None).params)


def config_file() -> Path | None:
    """What `--config` says."""
    given: Path | None = _given.get("config")
    return given


def settings(**flags: object) -> Loaded:
    """The settings in force, `flags` of the command over all others. Raises `InvalidConfig`."""
    return load_config(config_file(), {"store": _given.get("store"), **flags})


def connect(loaded: Loaded | None = None) -> "Client":
    """The way to the queue: its running pool, or its store where there is none. To be used in a `with`."""
    from aqueue.control.client import Client

    return Client((loaded or settings()).config)


def ask_jobs(*requests: Request) -> Iterator[Job]:
    """Ask the queue, and yield the jobs of its answer as they come."""
    with connect() as client:
        yield from jobs_in(client.ask(*requests))


def jobs_in(parts: Iterable[Part]) -> Iterator[Job]:
    return (job for part in parts if isinstance(part, Jobs) for job in part.jobs)


def ids_in(parts: Iterable[Part]) -> Iterator[str]:
    return (name for part in parts if isinstance(part, Ids) for name in part.ids)


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")


def print_json(value: object) -> None:
    """One JSON value on stdout, and nothing else."""
    write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def print_records(jobs: Iterable[Job]) -> None:
    """A JSON array on stdout, one record a line, written as the jobs come."""
    encode = msgspec.json.Encoder().encode
    before = b"[\n"
    for job in jobs:
        write_bytes(before + encode(job.record()))
        before = b",\n"
    write_bytes(b"[]\n" if before == b"[\n" else b"\n]\n")


def write_bytes(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


def hint(text: str) -> None:
    """Say something that is no data, in one line."""
    sys.stdout.flush()
    sys.stderr.write(printable(text) + "\n")


def one_of(ids: list[str] | None, flag: bool, name: str) -> list[str]:
    """The ids, or none where `flag` says all. Raises `InvalidRequest` unless exactly one of them is given."""
    if bool(ids) is flag:
        raise InvalidRequest(f"give ids or {name}" + (", not both" if flag else ""))
    return ids or []


def exit_status(job: Job) -> int:
    """A job's result as an exit status: its command's own; 128 + n for signal n; 1 if it has none."""
    if job.state is State.COMPLETED:
        return 0
    if job.signal:
        return 128 + job.signal
    return job.exit_code or 1


def completion(complete: Any) -> Any:
    """A function that completes words from the queue, and stays silent where the queue cannot be asked."""

    def silent(incomplete: str) -> list[str]:
        try:
            return [word for word in complete() if word.startswith(incomplete)]
        except (AqueueError, OSError):
            return []

    return silent


@completion
def complete_ids() -> Iterable[str]:
    from aqueue.control.requests import Find

    return (job.id for job in ask_jobs(Find(newest=True, limit=200)))


@completion
def complete_queues() -> Iterable[str]:
    from aqueue.control.requests import Overview, Status

    with connect() as client:
        return [queue for part in client.ask(Status()) if isinstance(part, Overview) for queue in part.counts]
