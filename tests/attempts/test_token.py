"""The token of an attempt."""

from datetime import UTC, datetime

import pytest

from aqueue.attempts.token import Token
from aqueue.jobs.environment import NAMES, attempt_variables
from aqueue.jobs.job import Attempt, Job

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job(id="j", seq=7, command="x", created_at=NOW, history=(Attempt(started_at=NOW, worker=3, token="run.3.7-1"),))


def test_a_token_is_read_back_as_it_was_written() -> None:
    token = Token("a1b2", 3, 7, 2)
    assert str(token) == "a1b2.3.7-2"
    assert Token.parse(str(token)) == token


@pytest.mark.parametrize(
    "text", ["", "a", "a.1.7", "a.1.7-", "a.1.7-2 0", "a.1.7-2\n", "a/b.1.7-2", "a.é.7-2", "a.1.٣-2"]
)
def test_what_is_no_token_is_not_read_as_one(text: str) -> None:
    assert Token.parse(text) is None


def test_a_command_is_told_its_token_and_by_no_variable_that_the_settings_do_not_know() -> None:
    variables = attempt_variables(JOB)
    assert variables["AQUEUE_TOKEN"] == "run.3.7-1"
    assert variables.keys() == NAMES
