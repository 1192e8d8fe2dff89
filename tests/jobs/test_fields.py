"""A plain field of a job is declared once, and everything that handles fields follows from that."""

import inspect
import typing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aqueue.api.queue import Queue
from aqueue.cli.enqueue import enqueue
from aqueue.errors import InvalidJob
from aqueue.jobs.fields import KINDS
from aqueue.jobs.job import Job, utc_now
from aqueue.jobs.lifecycle import new_job
from aqueue.jobs.spec import FIELDS, PLAIN_DEFAULTS, Defaults, JobSpec, NewJob
from aqueue.settings.config import Config
from aqueue.settings.declarations import SETTINGS
from tests.docs.tables import fields_table

SETTING_FIELDS = [name for name, field in FIELDS.items() if field.setting]


def new(defaults: Defaults | None = None, cwd: str | None = None, **fields: Any) -> NewJob:
    return JobSpec(**{"command": "true", **fields}).with_defaults(defaults or Defaults(), cwd)


def test_every_field_has_a_kind_and_is_explained() -> None:
    assert list(FIELDS) == list(JobSpec.__struct_fields__)
    for field in FIELDS.values():
        assert field.kind in KINDS
        assert field.help.endswith(".")


def test_what_is_queued_has_every_field() -> None:
    assert set(FIELDS) == set(NewJob.__struct_fields__)
    assert set(PLAIN_DEFAULTS) == set(FIELDS) - {"command", "id", "delay", "run_at"}
    assert set(PLAIN_DEFAULTS) < set(Job.__struct_fields__)


def test_settings_give_the_defaults_that_say_so() -> None:
    assert set(SETTING_FIELDS) == set(Defaults.__struct_fields__)
    assert set(SETTING_FIELDS) <= set(SETTINGS)
    for name in SETTING_FIELDS:
        assert getattr(Config("store"), name) == getattr(Defaults(), name)


def test_enqueue_in_an_application_takes_every_field_with_its_type_and_default() -> None:
    parameters = dict(inspect.signature(Queue.enqueue, eval_str=True).parameters)
    for name in ("self", "if_absent"):
        del parameters[name]
    assert list(parameters) == list(FIELDS)
    defaults = {
        field.name: field.default for field in msgspec.structs.fields(JobSpec) if field.default is not msgspec.NODEFAULT
    }
    types = typing.get_type_hints(JobSpec)
    for name, parameter in parameters.items():
        assert parameter.annotation == types[name], name
        assert parameter.default == defaults.get(name, inspect.Parameter.empty), name


def test_enqueue_on_the_command_line_has_an_option_for_every_field() -> None:
    parameters = list(inspect.signature(enqueue).parameters)
    assert [name for name in parameters if name in FIELDS and name != "command"] == [*FIELDS][1:]
    assert FIELDS["run_at"].option_name("run_at") == "--at"
    assert FIELDS["backoff_max"].option_name("backoff_max") == "--backoff-max"


def test_the_record_has_every_field() -> None:
    assert set(FIELDS) - {"delay"} < set(Job(id="a", seq=1, command="true", created_at=utc_now()).record())


def test_the_table_of_the_documentation_has_every_field_with_its_option_and_what_it_takes() -> None:
    rows = fields_table()[1:]
    assert [row[0] for row in rows] == [f"`{name}`" for name in FIELDS]
    assert rows[list(FIELDS).index("max_retries")] == [
        "`max_retries`",
        "`--max-retries`",
        "an integer from 0 to 1000000",
        "the setting `max_retries`",
        "Retries after the first attempt; then the job is dead",
    ]
    assert all(row[4] for row in rows)


def test_the_schema_of_a_job_in_json_is_one_that_msgspec_reads() -> None:
    assert msgspec.json.decode(b'{"command":"x","delay":"10s","run_at":"2026-12-01"}', type=JobSpec).delay == "10s"


# What each kind takes


@pytest.mark.parametrize("given", [300, 300.0, "5m", "300", "4min 60s", timedelta(minutes=5)])
@pytest.mark.parametrize("name", ["delay", "timeout", "backoff_max"])
def test_a_duration_is_seconds_or_text_or_a_timedelta(name: str, given: Any) -> None:
    assert getattr(new(**{name: given}), name) == 300


@pytest.mark.parametrize("given", [0, 0.0, "0", "0s", None, timedelta(0)])
def test_a_timeout_of_nothing_is_no_limit_whatever_the_settings_say(given: Any) -> None:
    limited = Defaults(timeout=60.0)
    assert new(limited).timeout == 60
    assert new(limited, timeout=given).timeout is None
    assert new(limited, timeout="2s").timeout == 2


@pytest.mark.parametrize(
    "given", ["2026-12-01T03:00Z", "2026-12-01T05:00:00+02:00", datetime(2026, 12, 1, 3, tzinfo=UTC)]
)
def test_a_time_is_kept_in_utc(given: Any) -> None:
    run_at = new(run_at=given).run_at
    assert run_at == datetime(2026, 12, 1, 3, tzinfo=UTC)
    assert run_at.tzinfo is UTC


def test_a_time_as_text_without_a_zone_is_local() -> None:
    assert new(run_at="2026-12-01T03:00").run_at == datetime(2026, 12, 1, 3).astimezone()


def test_a_directory_is_seen_from_whoever_asks() -> None:
    assert new(cwd=None).cwd is None
    assert JobSpec(command="true").with_defaults(Defaults(), "/here").cwd == "/here"
    assert JobSpec(command="true", cwd="rel").with_defaults(Defaults(), "/here").cwd == "/here/rel"
    assert JobSpec(command="true", cwd=Path("../rel")).with_defaults(Defaults(), "/here").cwd == "/rel"
    assert JobSpec(command="true", cwd="/there").with_defaults(Defaults(), "/here").cwd == "/there"


WRONG: list[tuple[str, Any, str]] = [
    ("command", ["ls", "-l"], 'command must be a string, not ["ls","-l"]'),
    ("command", b"ls", "command must be a string"),
    ("command", None, "command must be a string, not null"),
    ("id", 7, "id must be a string, not 7"),
    ("queue", ["q"], "queue must be a string"),
    ("priority", "high", 'priority must be an integer, not "high"'),
    ("priority", 1.5, "priority must be an integer, not 1.5"),
    ("priority", True, "priority must be an integer, not true"),
    ("delay", "soon", "delay must be a number of seconds, or a duration such as"),
    ("delay", [], "delay must be a number of seconds"),
    ("run_at", "soon", "run_at must be a time such as"),
    ("run_at", 1e9, "run_at must be a time such as"),
    ("timeout", "x", "timeout must be a number of seconds, or a duration such as"),
    ("timeout", True, "timeout must be a number of seconds"),
    ("timeout", timedelta(days=-1), "timeout -86400 is out of range"),
    ("max_retries", "3", 'max_retries must be an integer, not "3"'),
    ("backoff_base", "2", 'backoff_base must be a number, not "2"'),
    ("backoff_max", object(), "backoff_max must be a number of seconds"),
    ("backoff_jitter", "much", 'backoff_jitter must be a number, not "much"'),
    ("cwd", 3, "cwd must be a string, not 3"),
    ("env", {"A": 1}, 'env must be an object of strings, not {"A":1}'),
    ("env", ["A=1"], "env must be an object of strings"),
    ("tags", "demo", 'tags must be an array of strings, not "demo"'),
    ("tags", [1], "tags must be an array of strings, not [1]"),
]


@pytest.mark.parametrize(("name", "given", "message"), WRONG)
def test_a_value_of_another_type_is_refused_in_one_line(name: str, given: Any, message: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        new(cwd="/here", **{name: given}) if name != "cwd" else JobSpec(command="x", cwd=given).with_defaults(
            Defaults(), "/here"
        )
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_what_comes_over_the_socket_is_checked_again() -> None:
    cases: list[dict[str, Any]] = [
        {"queue": "no/slash"},
        {"max_retries": -1},
        {"cwd": "rel"},
        {"delay": 1, "run_at": utc_now()},
    ]
    for fields in cases:
        with pytest.raises(InvalidJob):
            NewJob(**{"command": "true", **fields}).validate()
    new(timeout=5, env={"A": "b"}, tags=("t",), delay=3, cwd="/").validate()


def test_a_value_that_equals_its_default_takes_no_room() -> None:
    job = new_job(new(backoff_base=float("2"), backoff_max="1h"), job_id="a", seq=1, now=utc_now())
    assert b"backoff" not in msgspec.json.encode(job)
