"""What somebody types becomes a job, or one clear line."""

import io

import pytest

from aqueue.cli import specs
from aqueue.errors import DuplicateJob, InvalidJob
from aqueue.jobs.spec import Defaults, JobSpec, NewJob


def complete(spec: JobSpec) -> NewJob:
    return spec.with_defaults(Defaults())


def lines(data: bytes) -> list[NewJob]:
    return list(specs.from_lines(io.BytesIO(data), "stdin", complete))


def test_an_argument_is_json_or_a_command() -> None:
    assert specs.from_argument('{"id":"a","command":"x"}') == [JobSpec(id="a", command="x")]
    assert specs.from_argument(' [{"command":"x"},{"command":"y"}]') == [JobSpec(command="x"), JobSpec(command="y")]
    assert specs.from_argument("echo {a,b}") == [JobSpec(command="echo {a,b}")]
    assert specs.from_argument("[]") == []


def test_words_are_quoted_for_the_shell() -> None:
    assert specs.from_words(["cp", "my film", "it's"])[0].command == """cp 'my film' 'it'"'"'s'"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"command":', "not valid JSON: input data was truncated"),
        ("{ echo; }", "goes after --command"),
        ('{"id":"a"}', "command is missing: it must be a shell command line"),
        ('{"command":3}', "command must be a string, not 3"),
        ('{"command":null}', "command must be a string, not null"),
        ('{"command":"x","max_retries":"abc"}', 'max_retries must be an integer, not "abc"'),
        ('{"command":"x","priority":null}', "priority must be an integer, not null"),
        ('{"command":"x","tags":null}', "tags must be an array of strings, not null"),
        ('{"command":"x","cwd":"rel","max_retries":"abc"}', 'max_retries must be an integer, not "abc"'),
        ('{"command":"x","priority":1.5}', "priority must be an integer, not 1.5"),
        (
            '{"command":"x","run_at":"soon"}',
            'run_at must be a time such as "2026-12-01T03:00" (local) or "2026-12-01T03:00:00Z", not "soon"',
        ),
        ('{"command":"x","env":{"A":1}}', 'env must be an object of strings, not {"A":1}'),
        ('{"command":"x","tags":"a"}', 'tags must be an array of strings, not "a"'),
        ('{"command":"x","retries":1}', "unknown field 'retries': allowed are command, id, queue"),
        ('{"command":"x","state":"dead"}', "state cannot be given: aqueue sets it itself; aqueue import takes"),
        ('[{"command":"x"},{"comand":"x"}]', "job 2 of the array: unknown field 'comand'"),
        ('["x"]', 'job 1 of the array: a job must be a JSON object, not "x"'),
        ("\udcff", "is not valid UTF-8"),
        ("[" * 100_000, "not valid JSON: maximum recursion depth"),
        ('{"command":' + "[" * 100_000, "not valid JSON: maximum recursion depth"),
        ('{"command":1,', "not valid JSON: input data was truncated"),
        ('{"command":NaN}', "not valid JSON: JSON is malformed"),
        ('{"command":"x","\\n\\u001b":1}', r"unknown field '\n\x1b'"),
    ],
)
def test_what_is_no_job_is_explained_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        specs.complete_all(specs.from_argument(text), complete)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stream_holds_json_and_commands_line_by_line() -> None:
    data = b'\xef\xbb\xbf{"command":"a"}\r\n\n  \necho b\n  {"command":"c","queue":"q"}  '
    assert [(spec.command, spec.queue) for spec in lines(data)] == [
        ("a", "default"),
        ("echo b", "default"),
        ("c", "q"),
    ]


def test_a_stream_may_be_one_array() -> None:
    assert [spec.command for spec in lines(b'[{"command":"a"},\n{"command":"b"}]\n')] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'echo\n{"command":""}\n', "stdin, line 2: command is empty"),
        (b'echo\n\n{"command":', "stdin, line 3: not valid JSON"),
        (b"echo\n\xff\n", "stdin, line 2: not valid UTF-8"),
        (b'{"command":"\xff"}\n', "stdin, line 1: not valid UTF-8"),
        (b'{"command":"x","max_retries":-1}\n', "stdin, line 1: max_retries -1 is out of range"),
    ],
)
def test_an_error_in_a_stream_names_its_line(data: bytes, message: str) -> None:
    with pytest.raises(InvalidJob, match=message):
        lines(data)


def test_an_error_in_one_of_many_says_in_which() -> None:
    with pytest.raises(InvalidJob, match=r"^job 2 of the array: command is empty"):
        specs.complete_all(specs.from_argument('[{"command":"x"},{"command":" "}]'), complete)
    with pytest.raises(InvalidJob, match=r"^command is empty"):
        specs.complete_all(specs.from_command(" "), complete)


def test_two_equal_ids_in_a_batch_are_refused() -> None:
    with pytest.raises(DuplicateJob, match="line 3: id a is that of line 1 too"):
        lines(b'{"id":"a","command":"x"}\necho\n{"id":"a","command":"y"}\n')
    with pytest.raises(DuplicateJob, match="id a occurs twice"):
        specs.complete_all([JobSpec(id="a", command="x"), JobSpec(id="a", command="y")], complete)
