"""The house: rooms import downward only, and no module takes part in a circle of imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "aqueue"
LAYERS = (
    "errors",
    "units",
    "layout",
    "system",
    "jobs",
    "settings",
    "attempts",
    "store",
    "pool",
    "control",
    "api",
    "cli",
)
"""From the bottom to the top: a room may import itself and what stands before it."""
ENTRANCES = ("aqueue", "aqueue.__main__")
"""They name what is elsewhere, and nothing imports them for more than the version."""


def module_name(file: Path) -> str:
    parts = ("aqueue", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str) -> Iterator[str]:
    """The modules of the project that a module imports, wherever in it that stands."""
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            assert node.level == 0, f"{name} imports by a relative name"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (each if each in MODULES else node.module for each in inside)


def room(name: str) -> str:
    return name.split(".")[1]


def test_rooms_import_downward_only() -> None:
    upward = [
        f"{name} imports {imported}"
        for name in MODULES
        if name not in ENTRANCES
        for imported in imports(name)
        if imported != "aqueue" and LAYERS.index(room(imported)) > LAYERS.index(room(name))
    ]
    assert upward == []


def test_no_module_imports_itself_in_a_circle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path[path.index(name) :], name))
        if name not in done:
            for imported in set(imports(name)) - {*ENTRANCES, name}:
                visit(imported, (*path, name))
            done.add(name)

    for module in MODULES:
        visit(module, ())
