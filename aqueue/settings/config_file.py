"""config.toml on the disk: which file is in force, what its `[aqueue]` table says, and writing to it.

Nothing here knows what a setting means. Changing a value keeps every comment and every other line, and
replaces the file in one step: a reader sees the old one or the new one, and of two changes none is lost.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from aqueue.errors import InvalidConfig

TABLE = "aqueue"


def given_file(file: Path | None, environ: Mapping[str, str], start: Path) -> Path | None:
    """The file that somebody named: `file`, which is what `--config` says, else `AQUEUE_CONFIG`."""
    if file is None and environ.get("AQUEUE_CONFIG"):
        file = Path(environ["AQUEUE_CONFIG"]).expanduser()
    return None if file is None else start / file


def find_file(file: Path | None, environ: Mapping[str, str], start: Path) -> tuple[Path | None, dict[str, object]]:
    """The config file in force and its `[aqueue]` table.

    First `file`, then `AQUEUE_CONFIG`, which must exist; then the nearest config.toml upward from `start`
    that has the table; then the user's own. One that nobody named must belong to this user or to root. Raises
    `InvalidConfig`.
    """
    given = given_file(file, environ, start)
    if given is not None:
        table = read_table(given, named=True)
        if table is None:
            raise InvalidConfig(f"{given}: has no table [{TABLE}], where aqueue's settings are")
        return given, table
    start = Path(os.path.abspath(start))
    for path in (*(folder / "config.toml" for folder in (start, *start.parents)), user_file(environ)):
        table = read_table(path)
        if table is not None:
            return path, table
    return None, {}


def read_table(path: Path, *, named: bool = False) -> dict[str, object] | None:
    """The `[aqueue]` table of a TOML file, None if it has none. Raises `InvalidConfig`."""
    try:
        with open(path, "rb") as file:
            owner, data = os.fstat(file.fileno()).st_uid, file.read()
    except OSError as error:
        if named:
            raise InvalidConfig(f"{path}: cannot read this config file: {error.strerror}") from None
        return None
    if TABLE.encode() not in data:
        return None  # another program's file, whatever its syntax
    import tomllib  # costs a few milliseconds: only where there is something to read

    try:
        table = tomllib.loads(data.decode()).get(TABLE)
    except ValueError as error:
        raise InvalidConfig(f"{path}: this is not valid TOML: {error}") from None
    if table is not None and not isinstance(table, dict):
        raise InvalidConfig(f"{path}: {TABLE} must be a table: [{TABLE}]")
    if table is not None and not named and owner not in (os.getuid(), 0):
        # It says which store is used, so whose commands run: nobody else may slip it under a directory of ours.
        raise InvalidConfig(f"{path} belongs to another user (uid {owner}): if you trust it, name it with --config")
    return table


def _xdg(environ: Mapping[str, str], variable: str, fallback: str) -> Path:
    given = environ.get(variable, "")
    return Path(given) if given.startswith("/") else Path(environ.get("HOME") or Path.home()) / fallback


def user_file(environ: Mapping[str, str]) -> Path:
    """The user's own config file, whether or not it exists."""
    return _xdg(environ, "XDG_CONFIG_HOME", ".config") / "aqueue" / "config.toml"


def default_store(environ: Mapping[str, str]) -> str:
    """One store per user, so that every terminal sees the same queue."""
    return str(_xdg(environ, "XDG_DATA_HOME", ".local/share") / "aqueue")


def state_folder(database: str, environ: Mapping[str, str]) -> Path:
    """Where this host's part of a queue is that lives in `database`, a URL without its password."""
    import hashlib  # costs a few milliseconds: only where there is a database

    name = hashlib.sha256(database.encode()).hexdigest()[:16]
    return _xdg(environ, "XDG_STATE_HOME", ".local/state") / "aqueue" / name


def file_to_change(file: Path | None, environ: Mapping[str, str], start: Path) -> Path:
    """The file that `config set` writes to: the one in force, else the user's own; it need not exist."""
    given = given_file(file, environ, start)
    return given or find_file(None, environ, start)[0] or user_file(environ)


def write_setting(path: Path, name: str, value: str | int | float) -> None:
    """Put `name = value` into the table of the file at `path`. Raises `InvalidConfig`."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    from aqueue.system.posix import locked

    path = Path(os.path.realpath(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):  # of two who change it at once, the second sees what the first wrote
            document = tomlkit.parse(path.read_text("utf-8"))
            table = document.setdefault(TABLE, tomlkit.table())
            spelled = next((key for key in table if key.replace("-", "_") == name), name)
            table[spelled] = value
            _replace_file(path, tomlkit.dumps(document))
    except OSError as error:
        raise InvalidConfig(f"{path}: cannot write this config file: {error.strerror}") from None
    except (TOMLKitError, ValueError, AttributeError, TypeError) as error:
        raise InvalidConfig(f"{path}: this is not valid TOML with a table [{TABLE}]: {error}") from None


def _replace_file(path: Path, text: str) -> None:
    import tempfile

    from aqueue.system.posix import sync_directory

    descriptor, name = tempfile.mkstemp(prefix=".config-", suffix=".toml", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as temporary:
            temporary.write(text)
            temporary.flush()
            os.fchmod(temporary.fileno(), path.stat().st_mode & 0o777)
            os.fsync(temporary.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    sync_directory(path.parent)
