"""Tables that fit, lines that cannot be forged."""

import io
import sys
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from aqueue.cli import render
from aqueue.cli.log import TextLine, json_line
from aqueue.jobs.job import Job, Outcome
from aqueue.jobs.lifecycle import claimed, settled

NOW = datetime(2026, 3, 1, tzinfo=UTC)
JOB = Job(id="job1", seq=1, command="echo hello", created_at=NOW, max_retries=0)
RUNNING = claimed(JOB, worker=2, token="t", now=NOW)


def ended(outcome: Outcome, job: Job = RUNNING) -> Job:
    return settled(job, outcome, now=NOW + timedelta(seconds=1.5), max_interruptions=5)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("日本語", 6, "日本語"), ("日本語", 5, "日本…"), ("日本語", 4, "日…")],
)
def test_text_is_cut_to_columns(text: str, width: int, shown: str) -> None:
    assert render.truncate(text, width) == shown
    assert render.display_width(shown) <= width


def test_a_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    lines = render.job_table([JOB, msgspec.structs.replace(JOB, id="日本", command="x" * 500)])
    assert max(render.display_width(line) for line in lines) <= 60
    assert lines[0].split() == ["ID", "STATE", "TRIES", "QUEUE", "WHEN", "COMMAND"]
    assert lines[2].endswith("…")


def test_wide_columns_give_way_to_the_last_one_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = msgspec.structs.replace(JOB, id="i" * 128, queue="q" * 128, command="short")
    assert all(name in render.job_table([wide])[1] for name in (wide.id, wide.queue))
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    for columns in (60, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = render.job_table([wide, JOB])
        assert max(render.display_width(line) for line in lines) <= columns
        assert lines[1].endswith(" short")
        assert lines[2].endswith(" echo hello")


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert render.painter(Terminal())("x", "31") == "\x1b[31mx\x1b[0m"
    assert render.painter(io.StringIO())("x", "31") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert render.painter(Terminal())("x", "31") == "x"


def test_a_command_cannot_forge_a_line() -> None:
    forged = msgspec.structs.replace(RUNNING, command="a\n12:00:00  job2  completed\x1b[31m")
    line = TextLine()(forged)
    assert line is not None
    assert "\n" not in line
    assert "\x1b" not in line
    assert all("\x1b" not in text for text in render.job_table([forged]))


def test_starts_and_ends_are_lines_and_waiting_is_none() -> None:
    line = TextLine()
    assert line(JOB) is None
    assert " started " in (line(RUNNING) or "")
    done = line(ended(Outcome(exit_code=0))) or ""
    assert done.split()[1:] == ["job1", "completed", "1.5", "s", "echo", "hello"]
    assert " interrupted " in (line(ended(Outcome(interrupted=True, error="stopped"))) or "")
    assert " dead " in (line(ended(Outcome(signal=9))) or "")


@pytest.mark.parametrize("state", ["dead", "failed"])
@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome(exit_code=3), "exit 3"),
        (Outcome(signal=9), "signal 9"),
        (Outcome(signal=15, error="time limit of 5 s exceeded"), "time limit of 5 s exceeded"),
        (Outcome(error="no\n12:00:00  job2  completed\x1b[31m"), r"no\n12:00:00  job2  completed\x1b[31m"),
        (Outcome(error="x" * 50), "x" * 39 + "…"),
    ],
)
def test_the_line_of_an_attempt_that_failed_says_why(state: str, outcome: Outcome, why: str) -> None:
    job = msgspec.structs.replace(RUNNING, max_retries=int(state == "failed"))
    line = TextLine()(ended(outcome, job)) or ""
    assert line.endswith(f" {state:<11}      1.5 s  {why}  echo hello")


def test_a_line_of_the_log_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    job = msgspec.structs.replace(RUNNING, command="x" * 100)
    for change in (job, ended(Outcome(exit_code=3), job), ended(Outcome(error="y" * 100), job)):
        assert render.display_width(TextLine()(change) or "") == 80


def test_the_log_for_machines_is_one_object_a_line() -> None:
    line = json_line(ended(Outcome(exit_code=3)))
    assert line is not None
    assert msgspec.json.decode(line) == {
        "time": "2026-03-01T00:00:01.500000Z", "event": "end", "state": "dead", "id": "job1", "queue": "default",
        "attempt": 1, "worker": 2, "exit_code": 3, "signal": None, "error": None, "duration": 1.5,
        "command": "echo hello",
    }  # fmt: skip
    assert json_line(JOB) is None


def test_everything_about_a_job_is_shown() -> None:
    text = "\n".join(render.details(ended(Outcome(exit_code=1, stdout="one\ntwo\n", stderr="bad\x1b"))))
    for part in ("job1", "dead", "echo hello", "attempt 1", "took 1.5 s, exit 1", "  one\n  two", "bad\\x1b"):
        assert part in text


def test_a_zero_is_shown_where_it_says_something() -> None:
    shown = {line.split()[0]: line.split()[1:] for line in render.details(ended(Outcome(exit_code=0)))}
    assert (shown["exit_code"], shown["max_retries"], shown["attempts"]) == (["0"], ["0"], ["1"])
    assert not {"priority", "interruptions", "signal", "error", "timeout", "tags", "env"} & shown.keys()
