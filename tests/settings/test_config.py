"""Settings: where they are found, which wins, what is refused, and how they are changed."""

import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from aqueue.errors import InvalidConfig
from aqueue.jobs.spec import JobSpec
from aqueue.settings.config import Config, Loaded, load_config, set_setting
from aqueue.settings.config_file import file_to_change, user_file
from aqueue.settings.declarations import SETTINGS

PROJECT_FILE = Path(__file__).parents[2] / "config.toml"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


def load(home: Path, start: Path | None = None, file: Path | None = None, **variables: str) -> Loaded:
    return load_config(file, environ={"HOME": str(home), **variables}, start=start or home)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_without_any_file_the_defaults_hold_and_the_store_is_the_users(home: Path) -> None:
    loaded = load(home)
    assert loaded.config == Config(store=str(home / ".local/share/aqueue"))
    assert loaded.file is None
    assert set(loaded.origins.values()) == {"default"}


def test_xdg_directories_are_followed(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "conf/aqueue/config.toml", "[aqueue]\nworkers = 7\n")
    loaded = load(home, XDG_CONFIG_HOME=str(tmp_path / "conf"), XDG_DATA_HOME=str(tmp_path / "data"))
    assert loaded.config.workers == 7
    assert loaded.config.store == str(tmp_path / "data/aqueue")


def test_the_nearest_file_upward_with_the_table_is_used(home: Path, tmp_path: Path) -> None:
    far = write(tmp_path / "a/config.toml", "[aqueue]\nworkers = 2\n")
    write(tmp_path / "a/b/config.toml", "this is = not even [ toml\n")
    (tmp_path / "a/b/c").mkdir()
    loaded = load(home, tmp_path / "a/b/c")
    assert (loaded.file, loaded.config.workers) == (far, 2)


AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")


@AS_ROOT
@pytest.mark.parametrize("place", ["a/config.toml", "home/.config/aqueue/config.toml"])
def test_a_file_of_another_user_is_passed_over_unless_it_is_named(
    home: Path, tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / place, "[aqueue]\nworkers = 7\n")
    (tmp_path / "a/b").mkdir(parents=True)
    assert load(home, tmp_path / "a/b").config.workers == 7
    os.chown(file, 65534, -1)
    assert load(home, tmp_path / "a/b").file is None
    passed_over = f"{file} belongs to another user (uid 65534) and is passed over; if you trust it: --config {file}"
    assert caplog.messages == [passed_over]
    assert load(home, tmp_path / "a/b", file).config.workers == 7
    assert load(home, tmp_path / "a/b", AQUEUE_CONFIG=str(file)).config.workers == 7
    file.write_text("# not for aqueue\n[other]\nworkers = 7\n")
    assert load(home, tmp_path / "a/b").file is None


@AS_ROOT
def test_a_link_of_another_user_is_not_followed(home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine = write(tmp_path / "mine.toml", "[aqueue]\nworkers = 7\n")
    link = tmp_path / "a/config.toml"
    link.parent.mkdir()
    link.symlink_to(mine)
    assert load(home, tmp_path / "a").config.workers == 7
    os.chown(link, 65534, -1, follow_symlinks=False)
    assert load(home, tmp_path / "a").file is None
    assert "passed over" in caplog.text


@pytest.mark.parametrize("kind", ["fifo", "directory", "socket", "huge", "terminal"])
def test_what_is_no_file_of_settings_holds_up_nobody_below_it(home: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a/config.toml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    elif kind == "huge":
        with open(path, "wb") as file:
            file.write(b"[aqueue]\n")
            file.truncate(3 << 40)
    else:
        path.symlink_to("/dev/ptmx")
    assert load(home, tmp_path / "a").file is None
    with pytest.raises(InvalidConfig, match=r"config\.toml: cannot read this config file"):
        load(home, file=path)


@AS_ROOT
def test_without_a_home_what_is_named_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "mine.toml", "[aqueue]\nworkers = 7\n")
    look = (
        "import hashlib, os\n"  # while this user may still read them
        "from aqueue.errors import AqueueError\n"
        "from aqueue.settings.config import load_config\n"
        "os.setuid(54321)  # who has no entry in the system's list of users\n"
        "try:\n    loaded = load_config()\n    print(loaded.config.folder, loaded.config.workers)\n"
        "except AqueueError as error:\n    print(error)\n"
    )

    def settings(**environ: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", look], env=environ, cwd="/", capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert settings(AQUEUE_STORE="/some/store") == "/some/store 4"
    assert settings(AQUEUE_STORE="postgresql:///queue", AQUEUE_DIRECTORY="/some/files") == "/some/files 4"
    assert settings().endswith("name a store with --store or AQUEUE_STORE")
    assert settings(AQUEUE_STORE="postgresql:///queue").endswith("name one with AQUEUE_DIRECTORY")


@AS_ROOT
def test_a_file_of_root_is_trusted_by_everybody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / "config.toml", "[aqueue]\nworkers = 7\n")
    monkeypatch.setattr(os, "getuid", lambda: 65534)
    assert load(home).config.workers == 7


def test_a_later_layer_wins_and_origins_say_which(home: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "config.toml", "[aqueue]\nworkers = 2\nmax-retries = 5\nqueue = 'a'\n")
    environ = {"HOME": str(home), "AQUEUE_MAX_RETRIES": "6", "AQUEUE_QUEUE": "b"}
    loaded = load_config(file, {"queue": "c", "store": None}, environ, home)
    assert (loaded.config.workers, loaded.config.max_retries, loaded.config.queue) == (2, 6, "c")
    assert [loaded.origins[name] for name in ("workers", "max_retries", "queue", "grace")] == [
        str(file), "AQUEUE_MAX_RETRIES", "--queue", "default",
    ]  # fmt: skip


def test_a_named_file_comes_before_the_variable_and_the_variable_before_the_search(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "config.toml", "[aqueue]\nworkers = 1\n")
    by_variable = write(tmp_path / "x.toml", "[aqueue]\nworkers = 2\n")
    by_flag = write(tmp_path / "y.toml", "[aqueue]\nworkers = 3\n")
    assert load(home, tmp_path).config.workers == 1
    assert load(home, tmp_path, AQUEUE_CONFIG=str(by_variable)).config.workers == 2
    assert load(home, tmp_path, by_flag, AQUEUE_CONFIG=str(by_variable)).config.workers == 3


def test_a_relative_store_starts_at_its_file_or_else_here(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "a/config.toml", "[aqueue]\nstore = '.aqueue'\n")
    (tmp_path / "a/b").mkdir()
    assert load(home, tmp_path / "a/b").config.store == str(tmp_path / "a/.aqueue")
    assert load(home, tmp_path / "a/b", AQUEUE_STORE="s").config.store == str(tmp_path / "a/b/s")
    assert load(home, AQUEUE_STORE="postgresql://host/db").config.store == "postgresql://host/db"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("workers = 0", "workers must be a whole number from 1 to 10000, not '0'"),
        ("workers = 2.5", "workers must be a whole number"),
        ("workers = true", "workers must be a whole number"),
        ("workers = '4'", "workers must be a whole number"),
        ("max_retries = -1", "max_retries must be a whole number from 0 to 1000000, not '-1'"),
        ("backoff_base = nan", "backoff_base must be a number from 0 to 1000000"),
        ("backoff_jitter = 1.5", "backoff_jitter must be a number from 0 to 1"),
        ("keep = '30 days'", "keep must be seconds, or a duration such as"),
        ("queue = ''", "queue must be 1 to 128 letters"),
        ("orphans = 'leave'", "orphans must be one of adopt, kill, not 'leave'"),
        ("store = 3", "store must be a directory"),
        ("worker = 4", "unknown setting 'worker': it must be one of store, workers"),
        ("max_retries = 1\nmax-retries = 2", "max_retries and max-retries are the same setting"),
    ],
)
def test_a_bad_line_is_one_error_that_names_the_file_and_the_rule(home: Path, line: str, named: str) -> None:
    file = write(home / "config.toml", f"[aqueue]\n{line}\n")
    with pytest.raises(InvalidConfig) as caught:
        load(home)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert named in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("AQUEUE_STORE", "/a\udcff", r"store must be a directory whose path is valid UTF-8, or .*, not '/a\\udcff'"),
        ("AQUEUE_WORKERS", "many", "AQUEUE_WORKERS: workers must be a whole number from 1 to 10000, not 'many'"),
        ("AQUEUE_MAX_RETRYS", "1", "variable AQUEUE_MAX_RETRYS: unknown setting"),
    ],
)
def test_a_bad_variable_is_an_error_that_names_it(home: Path, name: str, text: str, named: str) -> None:
    with pytest.raises(InvalidConfig, match=named):
        load_config(environ={"HOME": str(home), name: text}, start=home)


def test_the_variables_of_a_running_job_are_no_settings_except_its_queue(home: Path) -> None:
    loaded = load(home, AQUEUE_JOB_ID="j", AQUEUE_ATTEMPT="1", AQUEUE_WORKER="2", AQUEUE_TOKEN="t", AQUEUE_QUEUE="q")
    assert loaded.config.queue == "q"


@pytest.mark.parametrize("text", ["[aqueue", "aqueue = 3", "[other]\n"])
def test_a_named_file_must_be_toml_with_the_table(home: Path, text: str) -> None:
    file = write(home / "x.toml", text)
    with pytest.raises(InvalidConfig, match=str(file)):
        load(home, file=file)


def test_a_named_file_must_exist(home: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"no\.toml: cannot read this config file: No such file"):
        load(home, file=home / "no.toml")


def test_durations_may_be_text_and_zero_is_no_time_limit(home: Path) -> None:
    write(home / "config.toml", "[aqueue]\nkeep = '7d'\ngrace = 3\ntimeout = 0\n")
    config = load(home).config
    assert (config.keep, config.grace, config.timeout) == (604800.0, 3.0, None)
    assert load(home, AQUEUE_TIMEOUT="1m30s").config.timeout == 90.0


def test_job_defaults_are_the_settings(home: Path) -> None:
    config = load(home, AQUEUE_BACKOFF_BASE="3", AQUEUE_TIMEOUT="5").config
    job = JobSpec(command="true").with_defaults(config, "/tmp")
    assert (job.backoff_base, job.timeout, job.cwd) == (3.0, 5.0, "/tmp")


def test_setting_a_value_keeps_comments_and_everything_else(home: Path) -> None:
    text = "# mine\n[other]\nx = 1 # one\n\n[aqueue]\n# why\nmax-retries = 3 # three\nkeep = '30d'\n"
    file = write(home / "config.toml", text)
    file.chmod(0o640)
    assert set_setting(file, "max-retries", "5") == 5
    assert file.read_text() == text.replace("= 3 #", "= 5 #")
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in home.iterdir()] == ["config.toml"]


def test_setting_a_value_makes_the_file_and_its_table(home: Path) -> None:
    file = home / "new/config.toml"
    assert set_setting(file, "keep", "7d") == 604800.0
    assert set_setting(file, "backoff-base", "2") == 2.0
    assert tomllib.loads(file.read_text()) == {"aqueue": {"keep": "7d", "backoff_base": 2}}


@pytest.mark.parametrize(("key", "value"), [("workers", "0"), ("nothing", "1"), ("grace", "soon")])
def test_a_value_that_is_not_allowed_changes_nothing(home: Path, key: str, value: str) -> None:
    file = write(home / "config.toml", "[aqueue]\nworkers = 2\n")
    with pytest.raises(InvalidConfig):
        set_setting(file, key, value)
    assert file.read_text() == "[aqueue]\nworkers = 2\n"


def test_a_linked_file_is_changed_where_it_is(home: Path, tmp_path: Path) -> None:
    real = write(tmp_path / "real.toml", "[aqueue]\n")
    link = home / "config.toml"
    link.symlink_to(real)
    set_setting(link, "workers", "9")
    assert link.is_symlink()
    assert "workers = 9" in real.read_text()


def test_a_change_goes_to_the_file_in_force_or_the_users_own(home: Path) -> None:
    environ = {"HOME": str(home)}
    assert file_to_change(None, environ, home) == user_file(environ) == home / ".config/aqueue/config.toml"
    near = write(home / "config.toml", "[aqueue]\n")
    assert file_to_change(None, environ, home) == near
    assert file_to_change(Path("other.toml"), environ, home) == home / "other.toml"


def test_the_projects_own_file_holds_every_setting_with_its_default() -> None:
    table: dict[str, Any] = tomllib.loads(PROJECT_FILE.read_text())["aqueue"]
    assert list(table) == list(SETTINGS)
    loaded = load_config(PROJECT_FILE, environ={})
    assert loaded.config == Config(store=str(PROJECT_FILE.parent / ".aqueue"))


def test_every_setting_is_described() -> None:
    assert set(SETTINGS) == set(Config.__struct_fields__)
    for setting in SETTINGS.values():
        assert setting.why
        assert setting.rule


def test_reading_settings_imports_nothing_heavy() -> None:
    heavy = {"asyncio", "logging", "rich", "tomlkit", "typer"}
    code = f"import sys, aqueue.settings.config; print([name for name in sys.modules if name in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
