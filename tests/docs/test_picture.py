"""The README's picture of a terminal is what the program prints today."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.docs.documents import ROOT
from tests.docs.reader import comparable

PICTURE = ROOT / "docs" / "terminal.svg"


def text_in(picture: Path) -> str:
    """The lines of the terminal in a picture: pieces of text at the same height are one line."""
    lines: dict[float, str] = {}
    for piece in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text"):
        if piece.get("clip-path"):
            height = float(piece.get("y", "0"))
            lines[height] = f"{lines.get(height, '')} {piece.text}"
    return "\n".join(" ".join(line.split()) for line in lines.values())


@pytest.mark.skipif(sys.platform != "linux", reason="its commands are those of GNU, and print other messages elsewhere")
def test_the_picture_shows_what_a_new_run_prints(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("p")  # short: the store's path has to fit the picture
    store = folder / "s"
    subprocess.run(
        [sys.executable, ROOT / "scripts" / "terminal_picture.py", folder / "new.svg", "--store", store], check=True
    )
    new = text_in(folder / "new.svg").replace(str(store), "/tmp/aqueue")
    assert comparable(text_in(PICTURE)) == comparable(new), "run scripts/terminal_picture.py"
    assert not store.exists()


def test_the_picture_shows_nothing_of_who_made_it_and_loads_nothing() -> None:
    text = PICTURE.read_text("utf-8")
    assert str(ROOT) not in text
    assert os.path.expanduser("~") not in text
    assert "@font-face" not in text
    assert "href" not in text
