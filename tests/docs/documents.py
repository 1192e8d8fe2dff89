"""The project's documents: which there are, and their headings, blocks, tables and links.

A ```sh block is a script in which every command must succeed; a ```console block shows commands and what they print; a
```python block is a program; blocks of other kinds are only read. An HTML comment before a block says what is special:

    pool            a pool runs meanwhile, as in another terminal
    foreground      the block is a pool that runs until Ctrl-C
    database        the queue is in an empty database
    whole library   takes a minute, so its section runs only with what is slow
    run, test       set up the project itself: .ci/run executes these
    only read       would do something that no test should do
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = (README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
RUN = ("sh", "console", "python")
"""The kinds of blocks that are run."""
NOT_RUN_HERE = frozenset({"run", "test", "only read"})
MARKS = frozenset({"pool", "foreground", "database", "whole library", *NOT_RUN_HERE})

_BLOCK = re.compile(r"(?:^<!-- (?P<mark>[\w ]+) -->\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.+)$")
_LINK = re.compile(r"\]\(([^()\s]+)\)")


class Block(NamedTuple):
    section: str
    kind: str
    mark: str
    body: str
    line: int


class Section(NamedTuple):
    """What is below one heading of the second or third level, and runs in one directory from top to bottom."""

    document: str
    heading: str
    blocks: tuple[Block, ...]


def text_of(document: Path) -> str:
    return document.read_text("utf-8")


def blocks(text: str) -> list[Block]:
    """The blocks of a document, each with the heading that it is below, and the number of its first line."""
    found = []
    for match in _BLOCK.finditer(text):
        above = headings(text[: match.start()])
        line = text.count("\n", 0, match.start("body")) + 1
        found.append(Block(above[-1] if above else "", match["kind"], match["mark"] or "", match["body"], line))
    return found


def sections() -> list[Section]:
    """The sections of all documents that have something to run."""
    found = []
    for document in DOCUMENTS:
        by_heading: dict[str, list[Block]] = {}
        for block in blocks(text_of(document)):
            if block.kind in RUN and block.mark not in NOT_RUN_HERE:
                by_heading.setdefault(block.section, []).append(block)
        name = str(document.relative_to(ROOT))
        found += [Section(name, heading, tuple(inside)) for heading, inside in by_heading.items()]
    return found


def headings(text: str) -> list[str]:
    """The headings of a document, without what looks like one in a block."""
    return [match[2] for line in prose(text).splitlines() if (match := _HEADING.match(line))]


def prose(text: str) -> str:
    """A document without its blocks. One that is cut off inside a block is taken as it is."""
    return _BLOCK.sub("", text)


def anchors(text: str) -> set[str]:
    """What a link to a part of the document may name."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings(text)}


def links(text: str) -> list[str]:
    return _LINK.findall(prose(text))


def table_after(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its titles."""
    section = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    lines = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert lines is not None, f"there is no table below {heading}"
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[0].splitlines()]
    return rows[2:]
