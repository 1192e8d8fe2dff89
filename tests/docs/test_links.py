"""Documents lead to what exists: links between them, and files that they name."""

import re
from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, README, ROOT, anchors, links, prose, text_of

_FILE = re.compile(r"`((?:[\w.]+/)+[\w.-]*|[\w-]+\.(?:py|md|sql|toml))`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_documents_and_their_parts_lead_there(document: Path) -> None:
    for link in links(text_of(document)):
        if re.match(r"https?:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), link
        if anchor:
            assert anchor in anchors(text_of(file)), link


def test_every_document_can_be_reached_from_the_readme() -> None:
    seen, ahead = set(), [README]
    while ahead:
        document = ahead.pop()
        if document not in seen:
            seen.add(document)
            targets = (link.partition("#")[0] for link in links(text_of(document)) if not link.startswith("http"))
            ahead += [(document.parent / target).resolve() for target in targets if target.endswith(".md")]
    assert seen == set(DOCUMENTS)


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md", "docs/glossary.md"])
def test_every_file_that_is_named_exists(name: str) -> None:
    """Beginning at the root of the project, or of the package where the document says so in its first lines."""
    text = prose(text_of(ROOT / name))
    named = _FILE.findall(text)
    missing = [path for path in named if not any(list(root.glob(path.rstrip("/"))) for root in (ROOT, ROOT / "aqueue"))]
    assert named or name == "docs/glossary.md"
    assert missing == []


def test_every_method_that_architecture_names_exists() -> None:
    sources = [file.read_text("utf-8") for file in (ROOT / "aqueue").rglob("*.py")]
    named = re.findall(r"`([A-Z]\w+)\.(\w+)`", text_of(ROOT / "docs" / "architecture.md"))
    assert named
    for owner, method in named:
        assert any(f"class {owner}" in source and f"def {method}" in source for source in sources), f"{owner}.{method}"


def test_the_readme_is_short() -> None:
    assert len(text_of(README).splitlines()) <= 250
