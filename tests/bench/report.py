"""What a measurement yields, and how it is shown: a table for people, JSON for machines."""

import os
import platform
from dataclasses import asdict, dataclass
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.table import Table

_COLOURS = {"aim": "green", "must": "yellow", "missed": "red", "-": "dim"}


@dataclass(frozen=True)
class Machine:
    """Where the figures come from, and what else it does: `load` is the average of the last minute."""

    system: str
    cores: int
    python: str
    load: float

    @classmethod
    def now(cls) -> Self:
        """This machine, as it is before anything is measured."""
        system = f"{platform.system()} {platform.release()} {platform.machine()}"
        return cls(system, os.cpu_count() or 1, platform.python_version(), os.getloadavg()[0])


@dataclass(frozen=True)
class Figure:
    """One line of the table. `measured` is None where it was left out, and `note` says why."""

    what: str
    measured: float | None
    must: float
    aim: float
    unit: str
    """The unit; of a ratio, what it is a ratio to."""
    more: bool = False
    """Whether more is better."""
    note: str = ""

    @property
    def reached(self) -> str:
        """Which target is reached: `aim`, `must` or none (`missed`); `-` where nothing was measured."""
        if self.measured is None:
            return "-"
        for name, target in (("aim", self.aim), ("must", self.must)):
            if (self.measured >= target) if self.more else (self.measured <= target):
                return name
        return "missed"


def left_out(what: str, must: float, aim: float, why: str, *, more: bool = False) -> Figure:
    """The line of something that cannot be measured here."""
    return Figure(what, None, must, aim, "", more, f"left out: {why}")


def show(figures: list[Figure], where: Machine, *, quick: bool, terminal: bool) -> None:
    """Print the table; in a pipe it is plain and as wide as it has to be."""
    console = Console() if terminal else Console(width=220, color_system=None)
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in ("what", "measured", "must", "aim"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for name in ("reached", "unit or baseline", "note"):
        table.add_column(name)
    for figure in figures:
        bound = ">=" if figure.more else "<="
        measured = "-" if figure.measured is None else _number(figure.measured)
        targets = [f"{bound} {_number(target)}" for target in (figure.must, figure.aim)]
        style = _COLOURS[figure.reached] if terminal else ""
        table.add_row(figure.what, measured, *targets, figure.reached, figure.unit, figure.note, style=style)
    console.print(table)
    console.print(f"{where.system}, {where.cores} cores, Python {where.python}", style="dim")
    if where.load > 0.5:
        console.print(f"the load was {where.load:.1f} before this began: figures of a busy machine mean little")
    if quick:
        console.print("--quick: sizes were cut down, so these figures only hint at the ones that the targets mean")


def document(figures: list[Figure], where: Machine, *, quick: bool) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "machine": asdict(where),
        "quick": quick,
        "figures": [{**asdict(figure), "reached": figure.reached} for figure in figures],
    }


def _number(value: float) -> str:
    if value == int(value) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
