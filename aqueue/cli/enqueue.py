"""`aqueue enqueue`: queue shell commands, one or a hundred thousand, all or none."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import replace
from typer.core import TyperCommand

from aqueue.cli import context, output, specs
from aqueue.cli.job_options import given_fields, with_job_options
from aqueue.cli.options import JsonOption
from aqueue.control.batches import enqueue_requests
from aqueue.control.requests import Enqueue
from aqueue.errors import InvalidJob, InvalidRequest
from aqueue.jobs.job import State
from aqueue.jobs.spec import JobSpec, NewJob

_OPEN = JobSpec(command="")
"""A job that leaves every field open."""
LONG_BATCH = 5000
"""Jobs in a batch from which a terminal shows a progress bar."""

app = typer.Typer(rich_markup_mode="rich")


class WordsCommand(TyperCommand):
    """A command that keeps the words after `--` apart: they are a program and its arguments, not options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta["words"] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


@app.command("enqueue", cls=WordsCommand)
@with_job_options(after="file")
def enqueue(
    ctx: typer.Context,
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="A command line, a JSON object or array, or - for stdin.")
    ] = None,
    command: Annotated[str | None, typer.Option(help="The command line, where JOB is hard to quote.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read jobs from a file: JSON Lines, or a command a line.")] = None,
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Leave a job whose id exists as it is.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait, and exit with the command's exit status.")] = False,
    as_json: JsonOption = False,
    **fields: Any,
) -> None:
    """Queue shell commands, and print their ids.

    The words after -- are a program and its arguments: aqueue enqueue -- ffmpeg -i 'my film.mp4' out.webm
    """
    given = given_fields(fields)
    loaded = context.settings(ctx)
    cwd = os.getcwd()

    def complete(spec: JobSpec) -> NewJob:
        return (_filled(spec, given) if given else spec).with_defaults(loaded.config, cwd)

    source = _source(ctx.meta.get("words"), job, command, file, complete, single="id" in given)
    with context.connect(ctx, loaded) as client:
        queued = list(client.jobs(_requests(source, if_absent)))
        wait = wait and bool(queued)  # to wait for no ids is to wait for every job
        if not (wait and as_json):
            output.print_jobs(queued, as_json=as_json)
        if wait:
            sys.stdout.flush()
            from aqueue.control.waiting import wait_for_jobs

            ended = {job.id: job for job in wait_for_jobs(client, [job.id for job in queued])}
            queued = [ended[job.id] for job in queued]
            if as_json:
                output.print_records(queued)
            raise typer.Exit(next((output.exit_status(job) for job in queued if job.state is not State.COMPLETED), 0))


def _filled(spec: JobSpec, given: dict[str, Any]) -> JobSpec:
    """`spec` with what the options say. Raises `InvalidJob` where both of them say it."""
    for name in given:
        if getattr(spec, name) != getattr(_OPEN, name):
            raise InvalidJob(f"{name} is given twice, by the job and by an option: give it once")
    return replace(spec, **given)


def _source(
    words: list[str] | None,
    job: str | None,
    command: str | None,
    file: Path | None,
    complete: specs.Complete,
    *,
    single: bool,
) -> Iterable[NewJob]:
    """The jobs asked for, from the one place that was given; `single` if an option holds for one job only."""
    places = [place for place in (words, job, command, file) if place is not None]
    if len(places) != 1:
        said = "more than one way" if places else "no command"
        raise InvalidRequest(f"{said} given: give one of JOB, --command, --file, or words after --")
    if file is None and job != "-":
        if words is not None:
            asked = specs.from_words(words)
        else:
            asked = specs.from_argument(job) if job is not None else specs.from_command(command or "")
        if single and len(asked) > 1:
            raise InvalidRequest("--id names one job, and there are more: give each its id in the JSON")
        return specs.complete_all(asked, complete)
    if single:
        raise InvalidRequest("--id names one job: give each its id in the JSON")
    return _lines(file, complete)


def _lines(file: Path | None, complete: specs.Complete) -> Iterator[NewJob]:
    if file is None or str(file) == "-":
        yield from specs.from_lines(sys.stdin.buffer, "stdin", complete)
        return
    try:
        stream = open(file, "rb")  # noqa: SIM115 - closed below; an error of reading a line is no error of opening
    except OSError as error:
        raise InvalidJob(f"{file}: cannot read this file: {error.strerror}") from None
    with stream:
        yield from specs.from_lines(stream, str(file), complete)


def _requests(source: Iterable[NewJob], if_absent: bool) -> Iterator[Enqueue]:
    """The batch as requests; a bar on a terminal shows a long one's progress."""
    bar, sent = None, 0
    try:
        for request in enqueue_requests(source, if_absent=if_absent):
            if bar is None and sent >= LONG_BATCH and sys.stderr.isatty():
                from aqueue.cli.progress import CountBar

                bar = CountBar("queueing")
            yield request
            sent += len(request.specs)
            if bar:
                bar.show(sent)
    finally:
        if bar:
            bar.close()  # also where a bad line ends it: the bar hides the cursor
