"""`aqueue export` and `import`: all records as one JSON array, and back, or from a simple JSON queue.

Simple queues keep records of `id, command, state, attempts, max_retries, created_at, updated_at`, in an
array or in an object by id. What is missing gets its default; what cannot be understood is named.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from aqueue.cli import context, output
from aqueue.cli.options import JsonOption
from aqueue.control.batches import import_requests
from aqueue.control.requests import Find
from aqueue.errors import UNREADABLE, DuplicateJob, InvalidJob, printable
from aqueue.jobs.fields import check, check_range, shown
from aqueue.jobs.job import Attempt, Job, State, utc_now
from aqueue.jobs.spec import FIELDS, Defaults, first_duplicate, without_defaults

app = typer.Typer(rich_markup_mode="rich")


@app.command("export")
def export(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Print all records as one JSON array (with or without --json)."""
    output.print_records(context.jobs(ctx, Find(output=True)))


@app.command("import")
def import_jobs(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A JSON array of records, or an object by id; - is stdin.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Store the records of an export or of a simple JSON queue, all or none, and print their ids."""
    loaded = context.settings(ctx)
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InvalidJob(f"{file}: cannot read this file: {error.strerror}") from None
    jobs = read_records(data, "stdin" if str(file) == "-" else str(file), loaded.config)
    with context.connect(ctx, loaded) as client:
        output.print_jobs(client.jobs(import_requests(jobs)), as_json=as_json)


def read_records(data: bytes, name: str, defaults: Defaults) -> list[Job]:
    """The jobs that a file's records describe. Raises `InvalidJob` or `DuplicateJob`."""
    try:
        given: Any = msgspec.json.decode(data)
    except UNREADABLE as error:
        raise InvalidJob(f"{name}: not valid JSON: {error}") from None
    if isinstance(given, dict) and isinstance(given.get("jobs"), list | dict):
        given = given["jobs"]
    if isinstance(given, dict):
        given = [{"id": key, **value} if isinstance(value, dict) else value for key, value in given.items()]
    if not isinstance(given, list):
        raise InvalidJob(f"{name}: must be a JSON array of records, or an object of records by id")
    now = utc_now()
    jobs = [_job(record, f"{name}, record {number}", defaults, now) for number, record in enumerate(given, 1)]
    twice = first_duplicate(job.id for job in jobs)
    if twice is not None:
        raise DuplicateJob(f"{name}: id {printable(twice)} occurs twice: nothing was imported")
    return jobs


def _job(record: object, place: str, defaults: Defaults, now: datetime) -> Job:
    if not isinstance(record, dict):
        raise InvalidJob(f"{place}: must be a JSON object, not {shown(record)}")
    known = {name: value for name, value in record.items() if value is not None}
    for name in ("id", "command"):
        if not isinstance(known.get(name), str):
            raise InvalidJob(f"{place}: {name} must be a string, not {shown(known.get(name))}")
    place = f"{place} ({printable(known['id'][:128])})"
    unknown = sorted(known.keys() - _FIELDS - _DERIVED)
    if unknown:
        output.hint(f"{place}: left out {', '.join(printable(name) for name in unknown)}, unknown to aqueue")
    # A null is as good as nothing, except where it says that there is no limit.
    no_limit = {name for name in record if name not in known and name in FIELDS and FIELDS[name].kind == "limit"}
    fields: dict[str, Any] = {
        name: getattr(defaults, name) for name in Defaults.__struct_fields__ if name not in no_limit
    }
    try:
        fields |= {"created_at": now, **{name: _field(name, known[name]) for name in _FIELDS & known.keys()}}
        for name in ("attempts", "interruptions"):
            check_range(name, fields.get(name, 0), 0, 10**9)
    except InvalidJob as error:
        raise InvalidJob(f"{place}: {error}") from None
    if fields.get("state") is State.PROCESSING:
        fields["state"] = State.PENDING  # nobody runs it here
        fields["history"] = _closed(fields.get("history", ()), now)
    return Job(seq=0, **without_defaults(fields))


def _closed(history: tuple[Attempt, ...], now: datetime) -> tuple[Attempt, ...]:
    """A history in which nothing runs: what did is interrupted."""
    return tuple(
        attempt
        if attempt.finished_at
        else msgspec.structs.replace(attempt, finished_at=now, interrupted=True, error="interrupted: it was imported")
        for attempt in history
    )


def _field(name: str, value: Any) -> Any:
    """A field of a record as `Job` keeps it. Raises `InvalidJob`."""
    if name in FIELDS and FIELDS[name].kind != "time":
        return check(name, FIELDS[name], value)
    if name == "history" and isinstance(value, list):
        value = [{"token": "", **attempt} if isinstance(attempt, dict) else attempt for attempt in value]
    try:
        if _TYPES[name] in (datetime, datetime | None):
            return _moment(value)
        converted = msgspec.convert(value, _TYPES[name])
        return tuple(map(_with_zones, converted)) if name == "history" else converted
    except (msgspec.ValidationError, ValueError, OverflowError, OSError) as error:
        why = f"must be one of {', '.join(State)}" if name == "state" else str(error).rstrip(".")
        raise InvalidJob(f"{name} cannot be {shown(value)}: {why}") from None


def _with_zones(attempt: Attempt) -> Attempt:
    """An attempt whose times are in UTC, which they are where they name no zone."""
    times = {name: getattr(attempt, name) for name in ("started_at", "finished_at")}
    return msgspec.structs.replace(attempt, **{name: _in_utc(time) for name, time in times.items() if time})


def _moment(value: Any) -> datetime:
    """A time in UTC: ISO text, which is UTC where it names no zone, or seconds since 1970."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    if not isinstance(value, str):
        raise ValueError("a time is ISO text or seconds since 1970")
    return _in_utc(datetime.fromisoformat(value))


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_TYPES: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Job) if field.name != "seq"}
_FIELDS = frozenset(_TYPES)
_DERIVED = frozenset({"started_at", "finished_at", "worker", "pid", "exit_code", "signal", "error", "seq"})
