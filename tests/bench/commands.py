"""Whole commands, as a shell runs them: from before the process is made until it has ended.

Where a backlog is wanted that stays as it is, each worker of the pool is kept busy by a job that sleeps.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.bench import stores
from tests.bench.report import Figure
from tests.bench.sandbox import Sandbox, medians, sandbox


def enqueue(quick: bool) -> list[Figure]:
    """One job to a running pool, at several sizes of its store."""
    sizes, rounds = ((0, 10_000, 100_000), 5) if quick else ((0, 10_000, 1_000_000), 21)
    with ExitStack() as stack:
        boxes = [_busy(stack, size) for size in sizes]
        typer, *ours = medians(rounds, lambda: _typer(boxes[0]), *(_enqueue(box) for box in boxes))
    return [
        Figure(f"enqueue, pool running, {size:,} jobs", one / typer, 1.4, 1.25, "import typer", note=_took(one, typer))
        for size, one in zip(sizes, ours, strict=True)
    ]


def alone(quick: bool) -> list[Figure]:
    """One job where no pool runs: the command opens the store itself."""
    with sandbox() as box:
        stores.fill(box.store, stores.pending(100_000))
        (took,) = medians(3 if quick else 7, _enqueue(box))
    return [Figure("enqueue, no pool, 100,000 jobs", took, 0.4, 0.15, "s")]


def questions(quick: bool) -> list[Figure]:
    """`status` and `list` on a large store and on an empty one."""
    size, rounds = (100_000, 5) if quick else (1_000_000, 21)
    asked = (("status",), ("list", "--limit", "20"))
    with ExitStack() as stack:
        small, large = _busy(stack, 0), _busy(stack, size)
        figures = []
        for words in asked:
            few, many = medians(rounds, _call(small, *words), _call(large, *words))
            note = _took(many, few)
            what = f"{' '.join(words)}, {size:,} jobs"
            figures.append(Figure(what, many / few, 1.5, 1.1, "empty store", note=note))
    return figures


def bulk(quick: bool) -> list[Figure]:
    """Many JSON lines through one command, which returns when all are durable; they begin to run at once."""
    count = 10_000 if quick else 100_000
    (took,) = medians(1 if quick else 3, lambda: _bulk(count))
    return [Figure(f"enqueue -, {count:,} lines, pool running", took, 2, 1, "s", note=f"{count / took:,.0f} jobs/s")]


def _bulk(count: int) -> float:
    with sandbox() as box, box.pool():
        return box.aqueue("enqueue", "-", stdin=json_lines(box.folder, count))


def json_lines(folder: Path, count: int) -> Path:
    """A file of so many jobs as JSON lines."""
    lines = folder / "jobs.jsonl"
    lines.write_text('{"command": "true"}\n' * count)
    return lines


def _busy(stack: ExitStack, size: int) -> Sandbox:
    """A pool whose workers are busy, with `size` jobs waiting."""
    box = stack.enter_context(sandbox())
    stores.fill(box.store, stores.backlog(size))
    stack.enter_context(box.pool())
    return box


def _enqueue(box: Sandbox) -> Callable[[], float]:
    return lambda: box.aqueue("enqueue", "true")


def _call(box: Sandbox, *words: str) -> Callable[[], float]:
    return lambda: box.aqueue(*words)


def _typer(box: Sandbox) -> float:
    return box.seconds(sys.executable, "-c", "import typer")


def _took(one: float, other: float) -> str:
    return f"{one * 1000:,.0f} ms ÷ {other * 1000:,.0f} ms"
