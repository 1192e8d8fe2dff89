#!/usr/bin/env python3
"""Makes docs/terminal.svg, the picture of a terminal that the README shows, from a real run.

The commands of `SESSION` run one after the other in a pseudo-terminal, in a directory, a home and a store of their own.
What they write, colours included, goes through a small terminal emulator; the screen after the last command becomes the
picture. Nothing in it is drawn by hand, and a test compares the picture with a new run.

    python scripts/terminal_picture.py
"""

import argparse
import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "terminal.svg"
COLUMNS = 92
STORE = "/tmp/aqueue"
"""Shown in the picture, so it is nobody's home."""

FILES = {
    "jobs.txt": """\
gzip --keep access.log
sort -u words.txt -o words.sorted
sh upload.sh words.sorted
sha256sum access.log words.txt
ls /no/such/place
""",
    "upload.sh": 'sleep 0.3; [ "$AQUEUE_ATTEMPT" -gt 1 ] || { echo "connection reset" >&2; exit 56; }\n',
    "access.log": "GET / 200\n" * 5000,
    "words.txt": "one\ntwo\nthree\n" * 5000,
}
SESSION = (
    "cat jobs.txt",
    "aqueue enqueue --file jobs.txt --max-retries 1 --backoff-base 0.5 | wc -l",
    "aqueue worker start --drain --count 2",
    "aqueue dlq list",
    "aqueue logs j0005 --stderr",
)
PROMPT = "\x1b[1;32m$\x1b[0m \x1b[1m{}\x1b[0m\r\n"

THEME = TerminalTheme(
    background=(24, 26, 31),
    foreground=(213, 217, 224),
    normal=[
        (62, 68, 81),
        (240, 113, 120),
        (152, 195, 121),
        (229, 192, 123),
        (97, 175, 239),
        (198, 120, 221),
        (86, 182, 194),
        (213, 217, 224),
    ],
)
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<!-- Made by scripts/terminal_picture.py from a real run. -->
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""

_SEQUENCE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\].*?\x07|([\r\n\b])", re.DOTALL)


class Screen:
    """What a terminal shows after some output: as much of a terminal as the session needs, and never scrolled.

    Raises `ValueError` for a control sequence that it does not know, rather than show something else than a terminal.
    """

    def __init__(self) -> None:
        self._cells: list[list[tuple[str, str]]] = [[]]
        self._row = self._column = 0
        self._style = ""

    def write(self, output: str) -> None:
        at = 0
        for match in _SEQUENCE.finditer(output):
            self._put(output[at : match.start()])
            at = match.end()
            if match[3]:
                self._move(match[3])
            elif match[2]:
                self._control(match[1], match[2])
        self._put(output[at:])

    def _put(self, text: str) -> None:
        line = self._cells[self._row]
        for char in text:
            if not char.isprintable():
                raise ValueError(f"the terminal got {char!r}")
            line.extend([(" ", "")] * (self._column + 1 - len(line)))
            line[self._column] = (char, self._style)
            self._column += 1

    def _move(self, char: str) -> None:
        if char == "\r":
            self._column = 0
        elif char == "\b":
            self._column = max(self._column - 1, 0)
        else:
            self._row += 1
            if self._row == len(self._cells):
                self._cells.append([])

    def _control(self, arguments: str, name: str) -> None:
        if name == "m":
            self._style = "" if arguments in ("", "0") else f"{self._style}\x1b[{arguments}m"
        elif name == "A":
            self._row = max(self._row - int(arguments or 1), 0)
        elif name == "K" and arguments == "2":
            self._cells[self._row] = []
        elif name == "K" and arguments in ("", "0"):
            del self._cells[self._row][self._column :]
        elif arguments != "?25" or name not in "hl":  # a cursor that is hidden and shown again
            raise ValueError(f"the terminal got the sequence {arguments}{name}")

    def lines(self) -> list[Text]:
        """The screen line by line, with its colours, without empty lines at its end."""
        text = [_coloured(line) for line in self._cells]
        while text and not text[-1]:
            text.pop()
        return [Text.from_ansi(line) for line in text]


def _coloured(cells: list[tuple[str, str]]) -> str:
    """The cells of a line as text. A blank takes the colour of what is before it, because some programs that show an
    SVG leave out blanks at the beginning of a text."""
    runs: list[tuple[str, str]] = []
    for char, style in cells:
        if runs and (style == runs[-1][1] or char == " "):
            runs[-1] = (runs[-1][0] + char, runs[-1][1])
        else:
            runs.append((char, style))
    return "".join(f"{style}{text}\x1b[0m" for text, style in runs)


def run_in_terminal(command: str, folder: Path, environ: dict[str, str]) -> str:
    """Run a command line in a pseudo-terminal of its own, and return what it wrote to it."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environ,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    output = b""
    with open(master, "rb", buffering=0) as terminal:
        while True:
            try:
                output += terminal.read(1 << 16)
            except OSError:  # on Linux the end of a terminal is an error
                break
    process.wait()
    return output.decode()


def run_session(store: str) -> Screen:
    """The screen after all commands of `SESSION`, in a new directory and with a new store, which is removed again."""
    screen = Screen()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in FILES.items():
            (Path(folder) / name).write_text(content)
        unwanted = ("AQUEUE_", "XDG_", "NO_COLOR", "COLUMNS", "LINES")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        environ = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": folder,
            "AQUEUE_STORE": store,
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
        }
        os.mkdir(store, 0o700)
        try:
            for command in SESSION:
                screen.write(PROMPT.format(command) + run_in_terminal(command, Path(folder), environ))
        finally:
            shutil.rmtree(store)
    return screen


def picture(screen: Screen) -> str:
    """The screen as an SVG, which needs no font of its own and loads nothing."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for line in screen.lines():
        console.print(line, no_wrap=True, overflow="crop", highlight=False, crop=False)
    return console.export_svg(title="aqueue", theme=THEME, code_format=SVG, unique_id="terminal")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the picture of a terminal that the README shows.")
    parser.add_argument("file", nargs="?", type=Path, default=PICTURE, help="where to write it")
    parser.add_argument("--store", default=STORE, help="a store for the run, which must not exist")
    given = parser.parse_args()
    lines = picture(run_session(given.store)).splitlines()
    given.file.write_text("\n".join(line.rstrip() for line in lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
