"""What the outer shell of an attempt is given, and how what it writes is read: text only. That real commands mean what
they mean under `sh -c` is tested with the runner."""

import pytest

from aqueue.attempts.shell import (
    NO_REPORT,
    Report,
    interruption,
    isolated,
    parse_report,
    reported_tokens,
    reporting_script,
)
from aqueue.attempts.token import Token

TOKEN = "r.1.7-2"


@pytest.mark.parametrize("command", ["true", "echo a  b", "printf %d 'x y'", 'test "a b" = c', "pwd"])
def test_a_builtin_that_leaves_its_shell_as_it_was_gets_no_process(command: str) -> None:
    assert isolated(command) == command


@pytest.mark.parametrize("command", ["make -j4", "./run 'a b' \"c d\"", "/bin/echo x", "exit 3", "cd /", "env A=1 b"])
def test_plain_words_get_a_subshell(command: str) -> None:
    assert isolated(command) == f"({command})"


SYNTAX = ["a; b", "a | b", "a > b", "a $B", "a `b`", "a *", "A=1 b", "a # b", "a\nb", "a 'b", "! true", "a ~", "a \\b"]
LANGUAGE = ["if", "trap x EXIT", ". file", "eval x", "set -e", "wait", "return 3", "time a", "", 'a "$b"', "a é"]


@pytest.mark.parametrize("command", [*SYNTAX, *LANGUAGE])
def test_everything_else_gets_a_shell_of_its_own(command: str) -> None:
    assert isolated(command).startswith("(exec /bin/sh -c ")


def test_the_report_is_the_last_that_the_outer_shell_does() -> None:
    script = reporting_script("make", TOKEN)
    assert script.endswith(f'(make) </dev/null 2>&3 3>&-;s=$?;echo "{TOKEN} $s">&2;exit $s')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{TOKEN} 0\n", Report(0, "", False)),
        (f"Killed\n{TOKEN} 137\n", Report(137, "Killed", False)),
        (f"Killed\nr.1.6-1 137\n{TOKEN} 137\n", Report(137, "", False)),
        (f"r.1.6-1 interrupted\nKilled\n{TOKEN} 137\n", Report(137, "Killed", False)),
        (f"{TOKEN} interrupted\nTerminated\n{TOKEN} 143\n", Report(143, "Terminated", True)),
        (f"{TOKEN} 0\n{TOKEN} interrupted\n", Report(0, "", False)),
        (f"{TOKEN} interrupted\n", Report(None, "", True)),
        (f"{TOKEN}2 5\n", NO_REPORT),
        ("sh: 1: cannot fork\n", Report(None, "sh: 1: cannot fork", False)),
        (f"{TOKEN} ", Report(None, f"{TOKEN} ", False)),
        (f"{TOKEN} \N{SUPERSCRIPT TWO}\n", Report(None, f"{TOKEN} \N{SUPERSCRIPT TWO}", False)),
        ("", NO_REPORT),
    ],
)
def test_a_report_is_read_with_the_shells_remark_before_it(text: str, expected: Report) -> None:
    assert parse_report(text, TOKEN) == expected


@pytest.mark.parametrize(
    ("report", "exit_code", "signal"),
    [
        (Report(0, "", False), 0, None),
        (Report(7, "", False), 7, None),
        (Report(127, "sh: 1: nothing: not found", False), 127, None),
        (Report(128, "Weird", False), 128, None),
        (Report(137, "Killed", False), None, 9),
        (Report(137, "", False), 137, None),
        (Report(130, "", False), 130, None),
        (NO_REPORT, None, None),
    ],
)
def test_a_status_above_128_is_a_signal_only_where_the_shell_names_it(
    report: Report, exit_code: int | None, signal: int | None
) -> None:
    assert (report.exit_code, report.signal) == (exit_code, signal)


def test_a_remark_without_a_status_is_why_the_command_did_not_start() -> None:
    assert Report(None, "sh: 1: cannot fork", False).start_error == "sh: 1: cannot fork"
    assert Report(2, "sh: 1: cannot fork", False).start_error is None
    assert NO_REPORT.start_error is None


def test_a_mark_of_an_interruption_is_read_as_one() -> None:
    assert parse_report(interruption(TOKEN), TOKEN).interrupted
    assert not parse_report(interruption("r.1.6-1"), TOKEN).interrupted


def test_only_attempts_with_a_status_are_reported() -> None:
    text = f"Killed\n{TOKEN} 137\nr.1.8-1 interrupted\nremark 5\nr.1.9-1 \n"
    assert list(reported_tokens(text)) == [Token("r", 1, 7, 2)]
