"""What the documents show works: their commands and programs run. See `documents` for the marks of blocks."""

import re
import sys
from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, MARKS, RUN, Block, Section, blocks, sections, text_of
from tests.docs.reader import PATIENCE, Reader, comparable, steps


def parameters() -> list[object]:
    """Every section, those that take long marked so."""
    slow = [pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]
    return [
        pytest.param(
            section,
            id=f"{section.document}: {section.heading}",
            marks=slow if any(block.mark == "whole library" for block in section.blocks) else (),
        )
        for section in sections()
    ]


def check(reader: Reader, document: str, block: Block) -> None:
    where = f"{document}, line {block.line}"
    if block.kind == "python":
        status, text = reader.run(sys.executable, "-W", "error", "-c", block.body)
        assert status == 0, f"{where}\n{text}"
    elif block.kind == "console":
        for command, expected in steps(block.body):
            _, text = reader.run("bash", "-c", command)
            assert comparable(text) == comparable(expected), f"{where}: {command}\n{text}"
    elif block.mark == "foreground":
        with reader.pool(re.sub("^aqueue", "exec aqueue", block.body)):
            pass
    else:
        status, text = reader.run("bash", "-exo", "pipefail", "-c", block.body)
        assert status == 0, f"{where}\n{text}"
        if block.mark == "whole library":
            assert re.search(r"^\d+ completed, \d+ dead, 0 cancelled", text, re.MULTILINE), f"{where}\n{text}"


@pytest.mark.parametrize("section", parameters())
def test_what_a_section_shows_works(section: Section, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    reader = Reader(tmp_path)
    for block in section.blocks:
        if block.mark == "database":
            reader.environ["AQUEUE_STORE"] = request.getfixturevalue("database")
        if block.mark == "pool":
            with reader.pool():
                check(reader, section.document, block)
        else:
            check(reader, section.document, block)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_is_of_a_known_kind_with_a_known_mark(document: Path) -> None:
    text = text_of(document)
    found = blocks(text)
    assert len(found) == len(re.findall("^```", text, re.MULTILINE)) / 2
    assert {block.kind for block in found} <= {*RUN, "text", "toml"}
    assert {block.mark for block in found if block.mark} <= MARKS
    assert text.count("<!-- ") == sum(bool(block.mark) for block in found), "a mark that belongs to no block"


def test_the_set_up_commands_are_in_the_readme_for_ci() -> None:
    marks = [
        block.mark for document in DOCUMENTS for block in blocks(text_of(document)) if block.mark in ("run", "test")
    ]
    readme = [block.mark for block in blocks(text_of(DOCUMENTS[0]))]
    assert sorted(marks) == ["run", "test"] == sorted(mark for mark in readme if mark in ("run", "test"))
