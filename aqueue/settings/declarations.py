"""Every setting, declared once: what it is, what it may be, how a text for it is read.

Whatever is wrong is an `InvalidConfig` of one line that names the place, the key and what is allowed.
"""

import os
from pathlib import Path

import msgspec

from aqueue.errors import InvalidConfig, InvalidJob
from aqueue.jobs import environment
from aqueue.jobs.fields import KINDS, NAME_RULE, Field, check
from aqueue.jobs.spec import FIELDS
from aqueue.settings import store_url
from aqueue.units import DURATION_RULE

Value = str | int | float | None


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
"""Variables of aqueue's that are no settings. AQUEUE_QUEUE is one, and the pool sets it for its commands:
a job that is enqueued by a job goes to the same queue unless it names another."""


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
        value = _store(value, base) if setting.kind == "store" else _absolute(value, base)
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


def _store(value: str, base: Path) -> str:
    """A store as given, seen from directory `base`: an absolute path, or the URL of a database as it is."""
    if store_url.looks_like_url(value):
        if not store_url.is_valid(value):
            raise ValueError(value)
        return value
    return _absolute(value, base)


def _absolute(path: str, base: Path) -> str:
    return os.path.normpath(base / os.path.expanduser(path))
