"""A command that prints much: it should not notice that it runs in a queue, and neither should the pool."""

import asyncio

import psutil

import aqueue
from tests.bench.report import Figure
from tests.bench.sandbox import Sandbox, medians, sandbox


def output(quick: bool) -> list[Figure]:
    """The time of the command's attempt ÷ that of the same command with its output redirected by a shell; and the
    CPU time that the pool itself takes meanwhile, as a part of it."""
    size = 200_000_000 if quick else 1_000_000_000
    command = f"head -c {size} /dev/zero"
    busy: list[tuple[float, float]] = []
    with sandbox() as box, box.pool() as pid:
        pool = psutil.Process(pid)
        shell, ours = medians(
            3 if quick else 5,
            lambda: _redirected(box, command),
            lambda: asyncio.run(_queued(box, command, pool, busy)),
        )
    what = f"{size / 1e9:g} GB to stdout"
    cpu, wall = map(sum, zip(*busy, strict=True))  # all together, as the system counts CPU time in coarse steps
    note = f"{ours:.2f} s ÷ {shell:.2f} s"
    return [
        Figure(f"{what}: wall time", ours / shell, 1.2, 1.05, "redirected by the shell", note=note),
        Figure(f"{what}: CPU of the pool", 100 * cpu / wall, 5, 1, "%", note=f"of {wall:.2f} s, in steps of 10 ms"),
    ]


def _redirected(box: Sandbox, command: str) -> float:
    target = box.folder / "redirected"
    took = box.seconds("/bin/sh", "-c", f"{command} >{target}")
    target.unlink()
    return took


async def _queued(box: Sandbox, command: str, pool: psutil.Process, busy: list[tuple[float, float]]) -> float:
    async with aqueue.connect(config=box.config) as queue:
        before = pool.cpu_times()
        job = await queue.wait((await queue.enqueue(command)).id)
        after = pool.cpu_times()
        await queue.remove(job.id)
    if job.started_at is None or job.finished_at is None or job.exit_code:
        raise RuntimeError(f"{command}: {job.state}")
    took = (job.finished_at - job.started_at).total_seconds()
    busy.append((after.user + after.system - before.user - before.system, took))
    return took
