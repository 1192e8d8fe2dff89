"""Many processes change a store at once: each acknowledged change is there, each refused one is not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import Broken


@pytest.mark.slow
@pytest.mark.parametrize(("count", "pool"), [(50, "no pool"), (50, "a pool"), (50, "pools that are killed")])
def test_of_many_writers_each_acknowledged_change_is_there_and_each_refused_one_is_not(
    broken: Broken, count: int, pool: str
) -> None:
    program = str(Path(__file__).with_name("writing.py"))
    if pool == "a pool":
        broken.pool()
    writers = [
        subprocess.Popen([sys.executable, program, broken.store, f"w{number}"], stdout=subprocess.PIPE, text=True)
        for number in range(count)
    ]
    while pool == "pools that are killed" and any(writer.poll() is None for writer in writers):
        victim = broken.pool()
        try:
            victim.wait(0.3)
        except subprocess.TimeoutExpired:
            victim.kill()
            victim.wait()
    expected: dict[str, str | None] = {}
    for writer in writers:
        output = writer.communicate(timeout=180)[0]
        assert writer.returncode == 0
        expected.update(json.loads(output))
    assert len(expected) == 4 * count
    if pool == "a pool":
        broken.run("worker", "stop")
    broken.drain()
    found = broken.jobs()
    for name, state in expected.items():
        if state != "unknown":
            assert (found[name].state if name in found else None) == state, name
    assert broken.left_processing() == []
