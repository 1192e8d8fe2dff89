"""`aqueue config`: see the settings and where they come from, and change them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from aqueue.cli import context, output, render
from aqueue.cli.options import JsonOption
from aqueue.control.requests import Configure
from aqueue.settings import store_url
from aqueue.settings.config import Loaded, set_setting
from aqueue.settings.config_file import file_to_change
from aqueue.settings.declarations import SETTINGS, Value, setting_named

app = typer.Typer(rich_markup_mode="rich")

KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="A setting, such as max-retries.",
        autocompletion=lambda incomplete: [
            name.replace("_", "-") for name in SETTINGS if name.startswith(incomplete.replace("-", "_"))
        ],
    ),
]


@app.callback()
def config() -> None:
    """Settings: see them, where they come from, and change them."""


@app.command("show")
def show(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show every setting, its value, and where it comes from."""
    loaded = context.settings(ctx)
    values = {name: getattr(loaded.config, name) for name in SETTINGS}
    if as_json:
        output.print_json({name: _described(loaded, name) for name in SETTINGS})
        return
    rows = [(name, _shown(values[name]), loaded.origins[name], SETTINGS[name].why) for name in SETTINGS]
    output.print_lines(render.table(("SETTING", "VALUE", "FROM", "WHAT IT IS"), rows))


@app.command("get")
def get(ctx: typer.Context, key: KeyArgument, as_json: JsonOption = False) -> None:
    """Print one setting's value; durations are seconds, and nothing is printed for no limit."""
    setting = setting_named(key, "config get")
    loaded = context.settings(ctx)
    if as_json:
        output.print_json(_described(loaded, setting.name))
    else:
        output.print_lines([_shown(getattr(loaded.config, setting.name))])


@app.command("set", context_settings={"ignore_unknown_options": True})
def set_value(
    ctx: typer.Context,
    key: KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="The new value.")],
    as_json: JsonOption = False,
) -> None:
    """Change a setting in the config file; its comments stay. A running pool applies it at once."""
    setting = setting_named(key, "config set")
    file = file_to_change(context.config_file(ctx), os.environ, Path.cwd())
    counts = set_setting(file, setting.name, value)
    output.hint(f"{setting.name} = {store_url.redacted(value)} in {file}")
    loaded = context.settings(ctx)
    if loaded.origins[setting.name] != str(loaded.file):
        output.hint(f"note: {loaded.origins[setting.name]} still says {getattr(loaded.config, setting.name)}")
    elif setting.name == "store":
        output.hint("note: a pool that runs stays on its store")
    else:
        with context.connect(ctx, loaded) as client:
            if client.pool is not None:
                list(client.ask(Configure({setting.name: counts})))
                output.hint(f"the running pool (pid {client.pool.pid}) has applied it")
    if as_json:
        output.print_json(_described(loaded, setting.name))


@app.command("path")
def path(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Print the config file in force; where there is none, the one that `config set` would make."""
    file = file_to_change(context.config_file(ctx), os.environ, Path.cwd())
    if as_json:
        output.print_json({"path": str(file), "exists": file.exists()})
        return
    output.print_lines([str(file)])
    if not file.exists():
        output.hint("it does not exist: the settings are defaults")


def _described(loaded: Loaded, name: str) -> dict[str, Value]:
    value = getattr(loaded.config, name)
    return {"value": store_url.redacted(value) if isinstance(value, str) else value, "origin": loaded.origins[name]}


def _shown(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:g}" if value < 1e6 else f"{value:.0f}"
    return "" if value is None else store_url.redacted(str(value))
