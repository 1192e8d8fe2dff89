"""The kinds of options that several commands have, with their parsing and completion."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar

import typer

from aqueue.cli.completion import complete_ids, complete_queues
from aqueue.jobs.job import State
from aqueue.units import parse_duration, parse_time

Parsed = TypeVar("Parsed")


def _usage(parse: Callable[[str], Parsed]) -> Callable[[str], Parsed]:
    """`parse` with its `ValueError` as a usage error, which then names the option."""

    def parse_option(text: str) -> Parsed:
        if not isinstance(text, str):
            return text
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(f"{text!r} {error}") from None

    return parse_option


def _parse_age(text: str) -> float:
    """Like `parse_duration`, but the unit has to be said: who means 7 days must not get 7 seconds where it deletes."""
    if re.fullmatch(r"\s*[\d.]+\s*", text):
        raise ValueError("has no unit: say for example 7d, 12h or 0s")
    return parse_duration(text)


duration = _usage(parse_duration)
age = _usage(_parse_age)
time = _usage(parse_time)

DelayOption = Annotated[
    float | None, typer.Option(metavar="DURATION", parser=duration, help="Start after this: 10s, 5m, 1h30m.")
]
AtOption = Annotated[
    datetime | None, typer.Option("--at", metavar="TIME", parser=time, help="Start at this time: 2026-12-01T03:00.")
]
LimitOption = Annotated[
    float | None, typer.Option("--timeout", metavar="DURATION", parser=duration, help="How long one attempt may run.")
]
WaitTimeoutOption = Annotated[
    float | None, typer.Option("--timeout", metavar="DURATION", parser=duration, help="Wait no longer than this.")
]
OlderOption = Annotated[
    float | None,
    typer.Option(metavar="DURATION", parser=age, help="Only jobs that ended longer ago than this: 7d."),
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id.", autocompletion=complete_ids)]
IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="ID...", help="Ids of jobs.", autocompletion=complete_ids)
]
QueueOption = Annotated[
    str | None, typer.Option("--queue", metavar="NAME", help="The queue.", autocompletion=complete_queues)
]
StateOption = Annotated[list[State] | None, typer.Option("--state", help="Only this state; may be repeated.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
