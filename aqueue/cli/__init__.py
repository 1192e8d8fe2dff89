"""The command line: each module holds one group of commands, and a command is thin: parse, ask, print.

A command's module is imported only when the command is called, so that `aqueue enqueue` starts fast.
stdout carries data only; hints and errors go to stderr, an error as one line with the exit status it names.
"""

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_command_from_info, get_group

from aqueue import __version__
from aqueue.cli import context
from aqueue.errors import AqueueError, printable

COMMANDS = {
    "enqueue": "enqueue",
    "worker": "worker",
    "status": "status",
    "list": "jobs",
    "show": "jobs",
    "logs": "logs",
    "wait": "jobs",
    "cancel": "cancel",
    "remove": "remove",
    "dlq": "dlq",
    "config": "config",
    "export": "transfer",
    "import": "transfer",
    "store": "store",
    "doctor": "doctor",
}
"""Every command, in the order of the help, and the module that holds it."""


class LazyCommands(TyperGroup):
    """The commands of `COMMANDS`, each imported when it is needed.

    The types are `Any` because typer before 0.26 takes them from click, and later brings its own.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        app: typer.Typer = import_module(f"aqueue.cli.{COMMANDS[cmd_name]}").app
        command: Any
        if app.registered_callback:
            command = get_group(app)
            command.name = cmd_name
        else:
            info = next(info for info in app.registered_commands if info.name == cmd_name)
            command = get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode=app.rich_markup_mode)
        options = context.option_parameters()
        for each in (command, *getattr(command, "commands", {}).values()):
            each.params.extend(options)
        return command


app = typer.Typer(cls=LazyCommands, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """A durable job queue for shell commands: retries with backoff, a dead letter queue, one worker pool."""
    if version:
        typer.echo(f"aqueue {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    _repair_streams()
    try:
        status = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        status = 1  # as typer has it: the reader of stdout has left, which is no error to report
    except KeyboardInterrupt:
        status = 130
    except OSError as error:
        sys.stderr.write(f"aqueue: {error.strerror or error}{f': {error.filename}' if error.filename else ''}\n")
        status = 1
    sys.stderr.flush()
    # All is written and every block is left: the interpreter's own finalization would only add a fifth to the run.
    os._exit(status)


def _repair_streams() -> None:
    """Make sure that the standard streams are there, and that no text is too much for them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller; a file of ours would get its number
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - it stays open
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run() -> int:
    try:
        command: Any = get_command(app)
        command.params.extend(context.option_parameters())
        status = command.main(prog_name="aqueue", standalone_mode=False)
    except AqueueError as error:
        return _print_error(str(error), error.exit_code)
    except typer.Abort:
        return _print_error("stopped", 1)
    except Exception as error:
        # A usage error: of typer's own kind or of click's, whichever this version of typer raises.
        if not hasattr(error, "format_message"):
            raise
        return _usage_error(error)
    return status if isinstance(status, int) else 0


def _usage_error(error: Any) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "aqueue"
    message = " ".join(str(error.format_message()).split()).rstrip(".") or "no command given"
    return _print_error(f"{message} (see {command} --help)", error.exit_code)


def _print_error(message: str, status: int) -> int:
    # The reader of stdout may be the reader of stderr: what was printed comes first.
    sys.stdout.flush()
    sys.stderr.write(f"aqueue: {printable(message)}\n")
    return status
