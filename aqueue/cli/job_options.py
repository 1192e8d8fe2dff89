"""The options of a command that asks for a job: one for each plain field, made from the fields' declaration."""

import inspect
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from aqueue.cli.completion import complete_queues
from aqueue.cli.options import duration, time
from aqueue.errors import InvalidRequest
from aqueue.jobs.fields import Field
from aqueue.jobs.spec import FIELDS

_POSITIONAL = "command"
"""The field that is no option like the others: it is what the command is about."""
_PARSED: dict[str, tuple[Any, Callable[[str], Any] | None]] = {
    "name": (str, None),
    "names": (list[str], None),
    "whole": (int, None),
    "number": (float, None),
    "seconds": (float, duration),
    "limit": (float, duration),
    "time": (datetime, time),
    "directory": (str, None),
    "environment": (list[str], None),
}
"""By a field's kind, the type of its option, and what reads its text where that is not enough."""


def with_job_options(after: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command that takes `**fields` an option for each field, behind its parameter `after`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        parameters = []
        for parameter in signature.parameters.values():
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            if parameter.name == after:
                parameters += [_parameter(name, field) for name, field in FIELDS.items() if name != _POSITIONAL]
        vars(command)["__signature__"] = signature.replace(parameters=parameters)
        return command

    return decorate


def _parameter(name: str, field: Field) -> inspect.Parameter:
    kind, parser = _PARSED[field.kind]
    option = typer.Option(
        field.option_name(name),
        metavar=field.metavar or None,
        help=field.help,
        parser=parser,
        autocompletion=complete_queues if name == "queue" else None,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def given_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that options gave, as `JobSpec` takes them. Raises `InvalidRequest`."""
    given = {name: value for name, value in options.items() if value is not None and value != []}
    for name, value in given.items():
        match FIELDS[name].kind:
            case "directory":
                given[name] = os.path.expanduser(value)
            case "environment":
                given[name] = dict(_pair(text, FIELDS[name].option_name(name)) for text in value)
    return given


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidRequest(f"{option} {text!r} must be NAME=VALUE")
    return name, value
