"""The tables in the documents that follow from the code, and `python -m tests.docs.tables`, which writes them anew."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from aqueue.jobs.fields import KINDS, NAME_RULE, Field
from aqueue.jobs.spec import FIELDS
from aqueue.settings.config import Config
from aqueue.settings.declarations import SETTINGS
from tests.docs.documents import ROOT

SETTINGS_DOCUMENT = ROOT / "docs" / "settings.md"
RECORD_DOCUMENT = ROOT / "docs" / "record.md"


def settings_table() -> list[list[str]]:
    defaults = Config(store="`$XDG_DATA_HOME/aqueue`")
    shown = {name: getattr(defaults, name) for name in SETTINGS}
    plain = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in shown.items()}
    plain |= {"keep": "2592000", "timeout": "0"}
    rows = [[f"`{name}`", plain[name], setting.rule, setting.why] for name, setting in SETTINGS.items()]
    return [["setting", "default", "allowed", "what it is"], *rows]


def fields_table() -> list[list[str]]:
    rows = []
    for name, field in FIELDS.items():
        option = f"`{field.option_name(name)}{f' {field.metavar}' if field.metavar else ''}`"
        default = f"the setting `{name}`" if field.setting else ""
        rows.append([f"`{name}`", option, _allowed(field), default, field.help.rstrip(".")])
    return [["field", "option", "in JSON", "default", "what it is"], *rows]


def _allowed(field: Field) -> str:
    """What the field takes, with its bounds."""
    rule = KINDS[field.kind].rule
    if field.kind in ("whole", "number"):
        return f"{rule} from {field.low} to {field.high}"
    return f"{rule}: {NAME_RULE}" if field.kind == "name" else rule


TABLES: dict[tuple[Path, str], Callable[[], list[list[str]]]] = {
    (SETTINGS_DOCUMENT, "The settings"): settings_table,
    (RECORD_DOCUMENT, "What a job can be given"): fields_table,
}
"""By document and heading."""


def markdown(table: list[list[str]]) -> str:
    titles, *rows = table
    return "".join(_row(cells) for cells in (titles, ["---"] * len(titles), *rows))


def _row(cells: Iterable[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell != "---" else cell for cell in cells) + "|\n"


def write() -> None:
    """Put the tables of the code into the documents, each in the place of the first table below its heading."""
    for (document, heading), table in TABLES.items():
        before, title, after = re.split(rf"^(#+ {heading}\n)", document.read_text("utf-8"), flags=re.MULTILINE)
        new = markdown(table())
        after = re.sub(r"(?:^\|.*\n)+", lambda _: new, after, count=1, flags=re.MULTILINE)  # noqa: B023 - used at once
        document.write_text(before + title + after, "utf-8")


if __name__ == "__main__":
    write()
