"""Settings: defaults, then config.toml, then `AQUEUE_*` variables, then flags; each later one wins.

Every setting is declared in `aqueue.settings.declarations`; reading, checking and changing them follow from that.
Whatever is wrong is an `InvalidConfig` of one line that names the place, the key and what is allowed.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from aqueue.errors import InvalidConfig
from aqueue.jobs.spec import Defaults
from aqueue.settings import store_url
from aqueue.settings.config_file import default_store, find_file, state_folder, write_setting
from aqueue.settings.declarations import NOT_SETTINGS, SETTINGS, Setting, Value, checked, from_text, setting_named


class Config(Defaults, frozen=True):
    """Every setting, checked: what jobs get where they say nothing, and what concerns the store and its pool.

    Durations are seconds; `store` is an absolute path or a database URL.
    """

    store: str
    workers: int = 4
    grace: float = 10.0
    kill_after: float = 5.0
    keep: float = 30 * 86400.0
    output_limit: int = 65536
    max_interruptions: int = 5
    orphans: Literal["adopt", "kill"] = "adopt"
    directory: str = ""
    lease: float = 30.0

    @property
    def shared(self) -> bool:
        """Whether the store is a database, which many hosts may share."""
        return store_url.is_url(self.store)

    @property
    def folder(self) -> Path:
        """Where this host keeps its part: output, statuses, the socket. A directory's store keeps it in itself."""
        if not self.shared:
            return Path(self.store)
        return Path(self.directory) if self.directory else state_folder(store_url.redacted(self.store), os.environ)


class Loaded(msgspec.Struct, frozen=True):
    """The settings in force; for each, where it comes from; and the file that was read, if any."""

    config: Config
    origins: dict[str, str]
    file: Path | None


def load_config(
    file: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
    start: Path | None = None,
) -> Loaded:
    """Return the settings in force in directory `start` (the current one if None).

    `file` is what `--config` says; `overrides` are flags by setting name, None for one that was not given.
    Raises `InvalidConfig`.
    """
    start = Path.cwd() if start is None else start
    found, table = find_file(file, environ, start)
    values: dict[str, Any] = {}
    origins = dict.fromkeys(SETTINGS, "default")
    layers = (_in_file(found, table), _in_environment(environ, start), _in_flags(overrides or {}, start))
    for setting, value, place, base in chain.from_iterable(layers):
        values[setting.name] = checked(setting, value, place, base)
        origins[setting.name] = place
    if "store" not in values:
        values["store"] = default_store(environ)
    return Loaded(Config(**values), origins, found)


Assignments = Iterator[tuple[Setting, object, str, Path]]
"""Settings with their values, still unchecked; where each of them stands; and the directory where its paths start."""


def _in_file(file: Path | None, table: Mapping[str, object]) -> Assignments:
    if file is None:
        return
    keys: dict[str, str] = {}
    for key, value in table.items():
        setting = setting_named(key, str(file))
        first = keys.setdefault(setting.name, key)
        if first != key:
            raise InvalidConfig(f"{file}: {first} and {key} are the same setting: keep one")
        yield setting, value, str(file), file.parent


def _in_environment(environ: Mapping[str, str], start: Path) -> Assignments:
    for name, text in environ.items():
        if name.startswith("AQUEUE_") and name not in NOT_SETTINGS:
            setting = setting_named(name.removeprefix("AQUEUE_").lower(), f"variable {name}")
            yield setting, from_text(setting, text), name, start


def _in_flags(flags: Mapping[str, object], start: Path) -> Assignments:
    for name, value in flags.items():
        if value is not None:
            setting = setting_named(name, "option")
            place = f"--{setting.name.replace('_', '-')}"
            yield setting, from_text(setting, value) if isinstance(value, str) else value, place, start


def with_overrides(config: Config, overrides: Mapping[str, object]) -> Config:
    """`config` with other values for some settings. Raises `InvalidConfig`."""
    values: dict[str, Any] = {}
    for key, value in overrides.items():
        setting = setting_named(key, "config")
        values[setting.name] = checked(setting, value, "config", Path.cwd())
    return replace(config, **values)


def set_setting(file: Path, key: str, text: str) -> Value:
    """Write a setting into config file `file`, its comments kept, and return it as it counts.

    The file and its table are made if they do not exist. Raises `InvalidConfig`, and changes nothing then.
    """
    setting = setting_named(key, str(file))
    written = from_text(setting, text)
    if isinstance(written, str) and setting.kind in ("seconds", "limit"):
        written = _without_unit(written)
    value = checked(setting, written, str(file), file.absolute().parent)
    write_setting(file, setting.name, written)
    return value


def _without_unit(text: str) -> str | int | float:
    """A duration without a unit as the number it is; one with a unit as it was written."""
    try:
        seconds = float(text)
    except ValueError:
        return text
    return int(seconds) if seconds.is_integer() else seconds
