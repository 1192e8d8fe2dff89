"""`aqueue config`: see the settings and where they come from, and change them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from aqueue.cli import render, session
from aqueue.cli.options import JsonOption
from aqueue.control.requests import Configure
from aqueue.settings import store_url
from aqueue.settings.config import SETTINGS, Loaded, Value, set_setting, setting_named
from aqueue.settings.config_file import file_to_change

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
def show(as_json: JsonOption = False) -> None:
    """Show every setting, its value, and where it comes from."""
    loaded = session.settings()
    values = {name: getattr(loaded.config, name) for name in SETTINGS}
    if as_json:
        session.print_json({name: _described(loaded, name) for name in SETTINGS})
        return
    rows = [(name, _shown(values[name]), loaded.origins[name], SETTINGS[name].why) for name in SETTINGS]
    session.print_lines(render.table(("SETTING", "VALUE", "FROM", "WHAT IT IS"), rows))


@app.command("get")
def get(key: KeyArgument, as_json: JsonOption = False) -> None:
    """Print one setting's value; durations are seconds, and nothing is printed for no limit."""
    setting = setting_named(key, "config get")
    loaded = session.settings()
    if as_json:
        session.print_json(_described(loaded, setting.name))
    else:
        session.print_lines([_shown(getattr(loaded.config, setting.name))])


@app.command("set", context_settings={"ignore_unknown_options": True})
def set_value(
    key: KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="What it shall be.")],
    as_json: JsonOption = False,
) -> None:
    """Change a setting in the config file; its comments stay. A running pool takes it over at once."""
    setting = setting_named(key, "config set")
    file = file_to_change(session.config_file(), os.environ, Path.cwd())
    counts = set_setting(file, setting.name, value)
    session.hint(f"{setting.name} = {store_url.redacted(value)} in {file}")
    loaded = session.settings()
    if loaded.origins[setting.name] != str(loaded.file):
        session.hint(f"note: {loaded.origins[setting.name]} still says {getattr(loaded.config, setting.name)}")
    elif setting.name == "store":
        session.hint("note: a pool that runs stays on its store")
    else:
        with session.connect(loaded) as client:
            if client.pool is not None:
                list(client.ask(Configure({setting.name: counts})))
                session.hint(f"the running pool (pid {client.pool.pid}) has it")
    if as_json:
        session.print_json(_described(loaded, setting.name))


@app.command("path")
def path(as_json: JsonOption = False) -> None:
    """Print the config file in force; where there is none, the one that `config set` would make."""
    file = file_to_change(session.config_file(), os.environ, Path.cwd())
    if as_json:
        session.print_json({"path": str(file), "exists": file.exists()})
        return
    session.print_lines([str(file)])
    if not file.exists():
        session.hint("it does not exist: the settings are defaults")


def _described(loaded: Loaded, name: str) -> dict[str, Value]:
    value = getattr(loaded.config, name)
    return {"value": store_url.redacted(value) if isinstance(value, str) else value, "origin": loaded.origins[name]}


def _shown(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:g}" if value < 1e6 else f"{value:.0f}"
    return "" if value is None else store_url.redacted(str(value))
