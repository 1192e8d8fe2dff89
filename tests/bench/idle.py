"""What a pool costs that has nothing to do: nothing."""

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.bench import stores
from tests.bench.report import Figure, left_out
from tests.bench.sandbox import sandbox

SETTLE = 1.0
"""Seconds after its start in which a pool may still be busy with it."""


def idle(quick: bool) -> list[Figure]:
    """Context switches and CPU time of all threads of a pool that waits for tomorrow."""
    seconds, jobs = (1.5 if quick else 10), 10_000
    turns, ticks = (f"idle {seconds:g} s: {what}" for what in ("context switches", "CPU ticks"))
    if sys.platform != "linux":
        return [left_out(what, 0, 0, "only Linux counts them in /proc") for what in (turns, ticks)]
    with sandbox() as box:
        stores.fill(box.store, stores.scheduled(jobs, datetime.now(UTC) + timedelta(days=1)))
        with box.pool() as pid:
            time.sleep(SETTLE)
            before = switches(pid), _ticks(pid)
            time.sleep(seconds)
            after = switches(pid), _ticks(pid)
    unit = f"{jobs:,} jobs scheduled for tomorrow"
    tick = f"{1000 / os.sysconf('SC_CLK_TCK'):.0f} ms each"
    return [
        Figure(turns, after[0] - before[0], 0, 0, unit),
        Figure(ticks, after[1] - before[1], 0, 0, unit, note=tick),
    ]


def switches(pid: int) -> int:
    """Context switches so far, those it asked for and the others."""
    return sum(
        int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if "ctxt_switches" in line
    )


def _ticks(pid: int) -> int:
    """CPU time so far, in the kernel's ticks: see proc(5), `utime` and `stime` of stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
