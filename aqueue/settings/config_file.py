"""config.toml on the disk: which file is in force, what its `[aqueue]` table says, and writing to it.

Nothing here knows what a setting means. Changing a value keeps every comment and every other line, and
replaces the file in one step: a reader sees the old one or the new one, and of two changes none is lost.
"""

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from aqueue.errors import InvalidConfig

TABLE = "aqueue"
_LARGEST = 1_000_000
"""Bytes that a config file may have: it is read by every command."""


def given_file(file: Path | None, environ: Mapping[str, str], start: Path) -> Path | None:
    """The file that somebody named: `file`, which is what `--config` says, else `AQUEUE_CONFIG`."""
    if file is None and environ.get("AQUEUE_CONFIG"):
        file = Path(environ["AQUEUE_CONFIG"]).expanduser()
    return None if file is None else start / file


def find_file(file: Path | None, environ: Mapping[str, str], start: Path) -> tuple[Path | None, dict[str, object]]:
    """The config file in force and its `[aqueue]` table.

    First `file`, then `AQUEUE_CONFIG`, which must exist; then the nearest config.toml upward from `start`
    that has the table; then the user's own. One that nobody named and that belongs to somebody else than this user and
    root is passed over, with a warning in the log `aqueue.settings`. Raises `InvalidConfig`.
    """
    given = given_file(file, environ, start)
    if given is not None:
        table = read_table(given, named=True)
        if table is None:
            raise InvalidConfig(f"{given}: has no table [{TABLE}], where aqueue's settings are")
        return given, table
    start = Path(os.path.abspath(start))
    own = user_file(environ)
    for path in (*(folder / "config.toml" for folder in (start, *start.parents)), *([own] if own else [])):
        table = read_table(path)
        if table is not None:
            return path, table
    return None, {}


def read_table(path: Path, *, named: bool = False) -> dict[str, object] | None:
    """The `[aqueue]` table of a TOML file, None if it has none. Raises `InvalidConfig`."""
    try:
        owners, data = _read_regular_file(path)
    except OSError as error:
        if named:
            raise InvalidConfig(f"{path}: cannot read this config file: {error.strerror}") from None
        return None
    if TABLE.encode() not in data:
        return None  # another program's file, whatever its syntax
    if not named and (foreign := owners - {os.getuid(), 0}):
        # It says which store is used, so whose commands run: nobody else may slip it under a directory of ours.
        _warn(
            f"{path} belongs to another user (uid {min(foreign)}) and is passed over; if you trust it: --config {path}"
        )
        return None
    import tomllib  # costs a few milliseconds: only where there is something to read

    try:
        table = tomllib.loads(data.decode()).get(TABLE)
    except ValueError as error:
        raise InvalidConfig(f"{path}: this is not valid TOML: {error}") from None
    if table is not None and not isinstance(table, dict):
        raise InvalidConfig(f"{path}: {TABLE} must be a table: [{TABLE}]")
    return table


def _read_regular_file(path: Path) -> tuple[set[int], bytes]:
    """Who owns the file (and the link to it, where `path` is one), and what is in it. Raises `OSError`, also where it
    is no regular file or larger than `_LARGEST`: a named pipe would hold up every command below its directory."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if info.st_size > _LARGEST:
            raise OSError(errno.EFBIG, f"larger than {_LARGEST} bytes")
        return {info.st_uid, os.lstat(path).st_uid}, file.read(_LARGEST)


def _warn(text: str) -> None:
    import logging  # costs a few milliseconds: only where there is something to say

    logging.getLogger("aqueue.settings").warning("%s", text)


def _xdg(environ: Mapping[str, str], variable: str, fallback: str) -> Path | None:
    """The directory that an XDG variable names, else `fallback` in the user's home; None where there is no home."""
    given = environ.get(variable, "")
    if given.startswith("/"):
        return Path(given)
    try:
        return Path(environ.get("HOME") or Path.home()) / fallback
    except RuntimeError:  # no HOME, and no entry for this user in the system's list either
        return None


def user_file(environ: Mapping[str, str]) -> Path | None:
    """The user's own config file, whether or not it exists; None where the user has no home."""
    folder = _xdg(environ, "XDG_CONFIG_HOME", ".config")
    return None if folder is None else folder / "aqueue" / "config.toml"


def default_store(environ: Mapping[str, str]) -> str:
    """One store per user, so that every terminal sees the same queue. Raises `InvalidConfig` without a home."""
    folder = _xdg(environ, "XDG_DATA_HOME", ".local/share")
    if folder is None:
        raise InvalidConfig(
            "this user has no home directory to keep jobs in: name a store with --store or AQUEUE_STORE"
        )
    return str(folder / "aqueue")


def state_folder(database: str, environ: Mapping[str, str]) -> Path:
    """Where this host's part of a queue is that lives in `database`, a URL without its password."""
    import hashlib  # costs a few milliseconds: only where there is a database

    name = hashlib.sha256(database.encode()).hexdigest()[:16]
    folder = _xdg(environ, "XDG_STATE_HOME", ".local/state")
    if folder is None:
        raise InvalidConfig(
            "this user has no home directory to keep this host's files in: name one with AQUEUE_DIRECTORY"
        )
    return folder / "aqueue" / name


def file_to_change(file: Path | None, environ: Mapping[str, str], start: Path) -> Path:
    """The file that `config set` writes to: the one in force, else the user's own; it need not exist."""
    given = given_file(file, environ, start)
    file_in_force = given or find_file(None, environ, start)[0] or user_file(environ)
    if file_in_force is None:
        raise InvalidConfig("this user has no home directory to keep a config file in: name one with --config")
    return file_in_force


def write_setting(path: Path, name: str, value: str | int | float) -> None:
    """Put `name = value` into the table of the file at `path`. Raises `InvalidConfig`."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    from aqueue.system import locked

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

    from aqueue.system import sync_directory

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
