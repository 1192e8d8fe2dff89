"""The public names: for programs, for type checkers and for `import *` the same."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import aqueue

SOURCE = Path(aqueue.__file__)


def names_for_type_checkers() -> dict[str, str]:
    """What the block for type checkers imports, and from where."""
    tree = ast.parse(SOURCE.read_text("utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imported) == len(block.body)
    return {alias.name: str(node.module) for node in imported for alias in node.names}


def names_for_programs() -> dict[str, str]:
    modules: dict[str, tuple[str, ...]] = vars(aqueue)["_MODULES"]
    return {name: module for module, names in modules.items() for name in names}


def test_type_checkers_programs_and_import_star_know_the_same_names() -> None:
    assert names_for_programs() == names_for_type_checkers()
    assert sorted(names_for_programs()) == aqueue.__all__


def test_every_public_name_is_what_its_module_calls_so() -> None:
    for name, module in names_for_programs().items():
        assert getattr(aqueue, name) is getattr(import_module(module), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = aqueue.nothing  # type: ignore[attr-defined]


def test_naming_the_package_loads_none_of_it() -> None:
    code = "import aqueue, sys; print([name for name in sys.modules if name.startswith('aqueue.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
