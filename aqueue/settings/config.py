"""Settings: defaults, then config.toml, then `AQUEUE_*` variables, then flags; each later one wins.

`SETTINGS` describes every setting once: reading, checking, explaining and changing them follow from it.
Whatever is wrong is an `InvalidConfig` of one line that names the place, the key and what is allowed.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from aqueue.errors import InvalidConfig, InvalidJob
from aqueue.jobs import environment
from aqueue.jobs.fields import KINDS, NAME_RULE, Field, check
from aqueue.jobs.spec import FIELDS, Defaults
from aqueue.settings import store_url
from aqueue.settings.config_file import default_store, find_file, state_folder, write_setting
from aqueue.units import DURATION_RULE

Value = str | int | float | None


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


class Setting(msgspec.Struct, frozen=True):
    """One setting: its kind, what it may be, and why somebody would change it."""

    name: str
    kind: str
    why: str
    low: float = 0
    high: float = 10**9
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        return f"AQUEUE_{self.name.upper()}"

    @property
    def rule(self) -> str:
        """What is allowed, as the end of the sentence `workers must be …`."""
        bounds = f"from {self.low:,} to {self.high:,}".replace(",", "")
        return {
            "store": "a directory whose path is valid UTF-8, or a database as postgresql://user@host/name"
            " with percent-encoding",
            "path": "a directory whose path is valid UTF-8, or empty for one in the user's state directory",
            "name": NAME_RULE,
            "whole": f"a whole number {bounds}",
            "number": f"a number {bounds}",
            "seconds": f"{DURATION_RULE}, {bounds} seconds",
            "limit": f"{DURATION_RULE}, up to {self.high} seconds; 0 is no limit",
            "choice": "one of " + ", ".join(self.choices),
        }[self.kind]


def _default_of(name: str) -> Setting:
    """The setting that gives a plain field of a job its default."""
    field = FIELDS[name]
    why = field.help[:1].lower() + field.help[1:].rstrip(".")
    return Setting(name, field.kind, why, field.low, field.high)


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("store", "store", "where the jobs live; a relative path starts at this file"),
        Setting("workers", "whole", "how many jobs run at the same time", low=1, high=10_000),
        *(_default_of(name) for name, field in FIELDS.items() if field.setting),
        Setting("grace", "seconds", "how long running commands may go on after a stop is asked"),
        Setting("kill_after", "seconds", "how long a command has between SIGTERM and SIGKILL"),
        Setting("keep", "seconds", "completed and cancelled jobs older than this are removed; dead ones stay"),
        Setting("output_limit", "whole", "bytes of each output kept in the record; all is in a file", high=2**26),
        Setting("max_interruptions", "whole", "a job interrupted this often is dead", low=1, high=1_000_000),
        Setting("orphans", "choice", "what happens to commands that outlived their pool", choices=("adopt", "kill")),
        Setting("directory", "path", "where a pool on a database keeps the files of its host"),
        Setting("lease", "seconds", "a pool on a database that is silent for so long has lost its jobs", low=6),
    )
}

NOT_SETTINGS = frozenset({"AQUEUE_CONFIG", *environment.NAMES}) - {environment.QUEUE}
"""Variables of aqueue's that are no settings."""


class Loaded(msgspec.Struct, frozen=True):
    """The settings in force; for each, where it comes from; and the file that was read, if any."""

    config: Config
    origins: dict[str, str]
    file: Path | None


def setting_named(key: str, place: str) -> Setting:
    """The setting that `key`, with dashes or underscores, names. Raises `InvalidConfig`."""
    setting = SETTINGS.get(key.replace("-", "_"))
    if setting is None:
        raise InvalidConfig(f"{place}: unknown setting {key!r}: it must be one of {', '.join(SETTINGS)}")
    return setting


def checked(setting: Setting, value: object, place: str, base: Path) -> Value:
    """`value` as the setting holds it: seconds, an absolute path. Raises `InvalidConfig` where it is not allowed."""
    try:
        return _checked(setting, value, base)
    except (ValueError, InvalidJob):
        shown = store_url.redacted(str(value))[:100]
        raise InvalidConfig(f"{place}: {setting.name} must be {setting.rule}, not {shown!r}") from None


def _checked(setting: Setting, value: object, base: Path) -> Value:
    if setting.kind in KINDS:
        kept = check(setting.name, Field(setting.kind, setting.why, setting.low, setting.high), value)
        return float(kept) if setting.kind in ("number", "seconds", "limit") and kept is not None else kept
    if not isinstance(value, str) or "\0" in value or not (value or setting.kind == "path"):
        raise ValueError(value)
    if setting.choices and value not in setting.choices:
        raise ValueError(value)
    if value and setting.kind in ("store", "path"):
        value = resolve_store(value, base) if setting.kind == "store" else _absolute(value, base)
    value.encode()  # JSON has to hold it; a `UnicodeEncodeError` is a `ValueError`
    return value


def from_text(setting: Setting, text: str) -> str | int | float:
    """What a variable, a flag or `config set` says, as config.toml would say it; still unchecked."""
    kinds: dict[str, tuple[type[int] | type[float], ...]] = {"whole": (int,), "number": (int, float)}
    for kind in kinds.get(setting.kind, ()):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def resolve_store(value: str, base: Path) -> str:
    """A store as given, seen from directory `base`: an absolute path, or the URL of a database as it is."""
    if store_url.looks_like_url(value):
        if not store_url.is_valid(value):
            raise ValueError(value)
        return value
    return _absolute(value, base)


def _absolute(path: str, base: Path) -> str:
    return os.path.normpath(base / os.path.expanduser(path))


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

    def take(setting: Setting, value: object, place: str, base: Path) -> None:
        values[setting.name] = checked(setting, value, place, base)
        origins[setting.name] = place

    if found is not None:
        spelled: dict[str, str] = {}
        for key, value in table.items():
            setting = setting_named(key, str(found))
            if spelled.setdefault(setting.name, key) != key:
                raise InvalidConfig(f"{found}: {spelled[setting.name]} and {key} are the same setting: keep one")
            take(setting, value, str(found), found.parent)
    for name, text in environ.items():
        if name.startswith("AQUEUE_") and name not in NOT_SETTINGS:
            setting = setting_named(name.removeprefix("AQUEUE_").lower(), f"variable {name}")
            take(setting, from_text(setting, text), name, start)
    for name, given in (overrides or {}).items():
        if given is not None:
            setting = setting_named(name, "option")
            flag = f"--{setting.name.replace('_', '-')}"
            take(setting, from_text(setting, given) if isinstance(given, str) else given, flag, start)
    if "store" not in values:
        values["store"] = default_store(environ)
    return Loaded(Config(**values), origins, found)


def with_overrides(config: Config, changed: Mapping[str, object]) -> Config:
    """`config` with some settings given by an application instead. Raises `InvalidConfig`."""
    settings = {setting_named(key, "config").name: value for key, value in changed.items()}
    given = {name: checked(SETTINGS[name], value, "config", Path.cwd()) for name, value in settings.items()}
    return replace(config, **given)


def set_setting(file: Path, key: str, text: str) -> Value:
    """Write a setting into config file `file`, its comments kept, and return it as it counts.

    The file and its table are made if they do not exist. Raises `InvalidConfig`, and changes nothing then.
    """
    setting = setting_named(key, str(file))
    plain = from_text(setting, text)
    if isinstance(plain, str) and setting.kind in ("seconds", "limit"):
        plain = _number(plain)
    value = checked(setting, plain, str(file), file.absolute().parent)
    write_setting(file, setting.name, plain)
    return value


def _number(text: str) -> str | int | float:
    """A duration without a unit as the number it is; one with a unit as it was written."""
    try:
        seconds = float(text)
    except ValueError:
        return text
    return int(seconds) if seconds.is_integer() else seconds
