"""The tables and lists in the documents are those of the code."""

import re

import aqueue
from aqueue.cli import COMMANDS
from aqueue.errors import BY_KIND
from aqueue.jobs.job import Job, State, utc_now
from tests.docs.documents import DOCUMENTS, ROOT, table_after, text_of
from tests.docs.tables import TABLES

DOCS = ROOT / "docs"


def names_in(cells: list[str]) -> list[str]:
    return [name for cell in cells for name in re.findall(r"`(\w+)", cell)]


def test_tables_that_follow_from_the_code_are_up_to_date() -> None:
    for (document, heading), table in TABLES.items():
        expected = table()[1:]
        assert table_after(text_of(document), heading) == expected, "run python -m tests.docs.tables"


def test_the_table_of_exit_statuses_is_that_of_the_code() -> None:
    rows = {row[0]: row[2] for row in table_after(text_of(DOCS / "exit-statuses.md"), "Exit statuses")}
    named = {name: int(status) for status, names in rows.items() for name in names_in([names])}
    assert named == {name: error.exit_code for name, error in BY_KIND.items()}


def test_the_record_is_described_field_by_field() -> None:
    fields = names_in([row[0] for row in table_after(text_of(DOCS / "record.md"), "The record")])
    assert fields == list(Job(id="a", seq=1, command="true", created_at=utc_now()).record())


def test_every_state_is_described() -> None:
    rows = table_after(text_of(DOCS / "states.md"), "States")
    assert names_in([row[0] for row in rows]) == [state.value for state in State]


def test_every_public_name_is_described() -> None:
    errors = set(BY_KIND)
    rows = table_after(text_of(DOCS / "api.md"), "Names")
    assert sorted(names_in([row[0] for row in rows])) == sorted(set(aqueue.__all__) - errors)
    assert errors <= set(aqueue.__all__), "the table of exit statuses has the errors"


def test_every_public_method_is_described() -> None:
    text = text_of(DOCS / "api.md")
    of_all = names_in([row[0] for row in table_after(text, "What a queue can do")])
    of_pools = names_in([row[0] for row in table_after(text, "What only a pool can do")])
    assert set(of_all) == {name for name in vars(aqueue.Queue) if not name.startswith("_")}
    assert set(of_pools) <= set(vars(aqueue.Pool))


def test_every_command_is_described() -> None:
    rows = table_after(text_of(DOCS / "guide.md"), "All commands")
    assert [row[0].strip("`").split()[1] for row in rows] == list(COMMANDS)


def test_nothing_recommends_the_package_of_another_project() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"pip install [^\n]*\baqueue(?!-shell)", text_of(document)), document
