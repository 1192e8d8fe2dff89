"""The shell's line and its status line: what is written, what is read, and what it means, all as text."""

import shlex

import pytest

from aqueue.attempts.shell import (
    ShellExit,
    StatusReport,
    interpret,
    interpret_child,
    interruption_line,
    parse_status,
    reported_tokens,
    shell_line,
)
from aqueue.attempts.token import Token

TOKEN = "r.1.7-2"


# The line


def test_the_line_runs_the_command_apart_from_the_status_file_and_then_writes_the_status() -> None:
    line = shell_line("convert a b", TOKEN)
    redirected, _, report = line.partition(" </dev/null 2>&3 3>&-;")
    assert redirected.endswith(";(convert a b)")
    assert report == f's=$?;echo "{TOKEN} $s">&2;exit $s'


@pytest.mark.parametrize("command", ["true", "echo a 'b c' \"d\"", "test a = b", "printf %s x"])
def test_a_builtin_that_only_prints_or_compares_runs_in_the_outer_shell(command: str) -> None:
    assert f";{command} </dev/null" in shell_line(command, TOKEN)


@pytest.mark.parametrize("command", ["ls", "/bin/echo x", "cd /", "exec ls", "exit 3", "env A=1 true", "a 'b c' \"d\""])
def test_plain_words_run_in_a_subshell(command: str) -> None:
    assert f";({command}) </dev/null" in shell_line(command, TOKEN)


SYNTAX = [
    "a; b",
    "a | b",
    "a > b",
    "a &",
    "a $b",
    'a "$b"',
    "a `b`",
    "a *",
    "a ~",
    "a # b",
    "a\\ b",
    "a\nb",
    " a",
    "a )",
]
WORDS = ["if true", "for", ". file", "eval a", "trap", "set -e", "wait", "time a", "! true", "A=1 b", "[ a = b ]"]


@pytest.mark.parametrize("command", [*SYNTAX, *WORDS, "", "a 'unclosed", "a é"])
def test_anything_else_gets_a_shell_of_its_own(command: str) -> None:
    line = shell_line(command, TOKEN)
    assert f";(exec /bin/sh -c {shlex.quote(command)}) </dev/null" in line


# The status file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r.1.7-2 0\n", StatusReport(0)),
        ("r.1.6-1 3\nr.1.7-2 7\n", StatusReport(7)),
        ("Killed\nr.1.7-2 137\n", StatusReport(137, "Killed")),
        ("Killed\nr.1.6-1 137\nr.1.7-2 137\n", StatusReport(137)),
        ("r.1.7-2 interrupted\nTerminated\nr.1.7-2 143\n", StatusReport(143, "Terminated", True)),
        ("r.1.6-1 interrupted\nr.1.7-2 143\n", StatusReport(143)),
        ("r.1.7-2 interrupted\n", StatusReport(None, "", True)),
        ("r.1.7-2 0\nr.1.7-2 interrupted\n", StatusReport(0)),
        ("r.1.7-22 5\n", StatusReport()),
        ("sh: 1: cannot fork\n", StatusReport(None, "sh: 1: cannot fork")),
        ("r.1.7-2 ", StatusReport(None, "r.1.7-2 ")),
        ("cut off at the front.1.6-1 0\nr.1.7-2 1\n", StatusReport(1)),
        ("", StatusReport()),
    ],
)
def test_a_status_is_read_with_the_shells_remark_before_it_and_the_mark_of_an_interruption(
    text: str, expected: StatusReport
) -> None:
    assert parse_status(text, TOKEN) == expected


def test_the_mark_of_an_interruption_is_read_as_it_is_written() -> None:
    assert parse_status(interruption_line(TOKEN), TOKEN) == StatusReport(None, "", True)


def test_attempts_are_reported_once_their_status_is_written() -> None:
    text = "r.1.5-1 0\nKilled\nr.1.6-1 137\nnonsense 3\nr.1.7-2 interrupted\nr.1.8-1 \N{SUPERSCRIPT TWO}\nr.1.9-1"
    assert reported_tokens(text) == [Token("r", 1, 5, 1), Token("r", 1, 6, 1)]


# What it means


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (StatusReport(0), ShellExit(0)),
        (StatusReport(7), ShellExit(7)),
        (StatusReport(7, "a remark"), ShellExit(7)),
        (StatusReport(128, "a remark"), ShellExit(128)),
        (StatusReport(137, "Killed"), ShellExit(signal=9)),
        (StatusReport(137), ShellExit(137)),
        (StatusReport(130), ShellExit(130)),
        (StatusReport(None, "cannot fork"), ShellExit(error="cannot start: cannot fork")),
        (StatusReport(), ShellExit()),
    ],
)
def test_a_status_over_128_is_a_signal_where_the_shell_remarks_on_it(report: StatusReport, expected: ShellExit) -> None:
    assert interpret(report) == expected


@pytest.mark.parametrize(
    ("returncode", "report", "expected"),
    [
        (7, StatusReport(7), ShellExit(7)),
        (137, StatusReport(137, "Killed"), ShellExit(signal=9)),
        (-9, StatusReport(), ShellExit(signal=9)),
        (-15, StatusReport(None, "a remark"), ShellExit(signal=15)),
        (2, StatusReport(None, "cannot fork"), ShellExit(error="cannot start: cannot fork")),
        (3, StatusReport(), ShellExit(3)),
    ],
)
def test_a_shell_of_ours_that_is_killed_or_cannot_write_tells_by_its_own_end(
    returncode: int, report: StatusReport, expected: ShellExit
) -> None:
    assert interpret_child(returncode, report) == expected
