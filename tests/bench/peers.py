"""The same jobs through what one could use instead, where that is installed: their time ÷ ours.

Each peer is set up as its manual says, with four slots, and timed from its best side: jobs that can be queued before
the clock starts are. Ours is timed in the same way: task-spooler's server runs already, so only the time from the
first start to the last result counts; the workers of spoolctl and queuectl are started, so the whole life of our pool
does; GNU parallel reads its commands from a file, so our enqueuing counts as well.
"""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import msgspec

from tests.bench.report import Figure, left_out
from tests.bench.sandbox import medians, sandbox, until
from tests.bench.throughput import drained, drained_process, queued_and_drained

_SLOTS = 4


def peers(quick: bool) -> list[Figure]:
    """Every peer against us."""
    count, rounds = (24, 1) if quick else (500, 3)
    rivals: list[tuple[str, str, Callable[[int], float], Callable[[int], float], str]] = [
        ("task-spooler", "tsp", _task_spooler, drained, "first start to last result"),
        ("spoolctl", "spoolctl", _spoolctl, drained_process, "workers started to all done"),
        ("queuectl", "queuectl", _queuectl, drained_process, "workers started to all done"),
        ("GNU parallel", "parallel", _parallel, queued_and_drained, "commands in a file to all done"),
    ]
    figures = []
    for name, program, theirs, ours, span in rivals:
        what = f"{count} true: {name} ÷ ours"
        if shutil.which(program) is None:
            figures.append(left_out(what, 1, 1.3, f"{program} is not installed", more=True))
            continue
        try:
            them, us = medians(rounds, partial(_theirs, theirs, count), partial(ours, count))
        except PeerFailed as error:
            figures.append(left_out(what, 1, 1.3, str(error), more=True))
            continue
        note = f"{them:.2f} s ÷ {us:.2f} s, {span}"
        figures.append(Figure(what, them / us, 1, 1.3, "time of " + name, more=True, note=note))
    return figures


class PeerFailed(RuntimeError):
    """A peer could not be measured; says why."""


def _theirs(run: Callable[[int], float], count: int) -> float:
    """What `run` measures. Raises `PeerFailed`."""
    try:
        return run(count)
    except (OSError, RuntimeError, StopIteration, sqlite3.Error) as error:
        raise PeerFailed(str(error).partition("\n")[0] or repr(error)) from error


def _task_spooler(count: int) -> float:
    """Its slots are held by commands that wait for a pipe while the jobs are queued; the clock starts when they go."""
    with sandbox() as box:
        box.environ |= {"TS_SOCKET": str(box.folder / "tsp"), "TMPDIR": str(box.folder), "TS_MAXFINISHED": "10000"}
        box.environ["TS_MAXCONN"] = "900"
        held = [box.fifo(f"held{number}") for number in range(_SLOTS)]
        try:
            box.seconds("tsp", "-S", str(_SLOTS))
            for fifo in held:
                box.seconds("tsp", "-n", "sh", "-c", f"read line <{fifo.path}")
            for _ in range(count):
                box.seconds("tsp", "sh", "-c", "true")
            began = time.perf_counter()
            for fifo in held:
                fifo.write("go\n")
            box.seconds("tsp", "-w")
            return time.perf_counter() - began
        finally:
            box.seconds("tsp", "-K")


def _spoolctl(count: int) -> float:
    """One worker process for each slot; each ends when there is nothing left."""
    with sandbox() as box, ExitStack() as workers:
        database = str(box.folder / "queue.db")

        def add(_: int) -> float:
            return box.seconds("spoolctl", "add", "--db", database, "-c", "true")

        add(0)
        with ThreadPoolExecutor(_SLOTS) as threads:
            list(threads.map(add, range(count - 1)))
        began = time.perf_counter()
        processes = [
            workers.enter_context(box.started("spoolctl", "work", "--db", database, "--drain")) for _ in range(_SLOTS)
        ]
        for process in processes:
            process.wait()
        return time.perf_counter() - began


def _queuectl(count: int) -> float:
    """Its workers do not end by themselves: its database tells when the last job is completed."""
    with sandbox() as box:
        batch = box.folder / "batch.json"
        batch.write_bytes(msgspec.json.encode([{"command": "true"}] * count))
        box.seconds("queuectl", "batch", str(batch))
        database = next((box.folder / ".queuectl").glob("*.db"))
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
            began = time.perf_counter()
            with box.started("queuectl", "worker", "start", "--count", str(_SLOTS)):
                until(lambda: _completed(reader) == count, every=0.02)
                return time.perf_counter() - began


def _completed(reader: sqlite3.Connection) -> int:
    (number,) = reader.execute("select count(*) from jobs where state = 'completed'").fetchone()
    return int(number)


def _parallel(count: int) -> float:
    """Commands from its stdin, and a log of what became of them."""
    with sandbox() as box:
        commands = box.folder / "commands"
        commands.write_text("true\n" * count)
        (box.folder / ".parallel").mkdir()
        (box.folder / ".parallel" / "will-cite").touch()
        return box.seconds("parallel", f"-j{_SLOTS}", "--joblog", str(box.folder / "joblog"), stdin=commands)
