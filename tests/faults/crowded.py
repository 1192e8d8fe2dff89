"""A program that embeds a pool where its user may have only a few processes: run by root, it becomes nobody first."""

import asyncio
import concurrent.futures.thread  # noqa: F401 - nobody may not be able to read modules, so all are loaded before
import os
import resource
import sys

import anyio._backends._asyncio  # noqa: F401

import aqueue
import aqueue.control.server
import aqueue.store.journal.store

NOBODY = 65534


async def main(store: str) -> None:
    async with aqueue.Pool(store=store, workers=20) as pool:
        jobs = await pool.enqueue_many([aqueue.JobSpec(command="sleep 0.5; true", max_retries=0)] * 30)
        for job in jobs:
            ended = await pool.wait(job.id)
            sys.stdout.write(f"{ended.state} {ended.error or ''}\n")
        last = await pool.wait((await pool.enqueue("echo alive")).id)
        sys.stdout.write(f"{last.stdout}")


if __name__ == "__main__":
    aqueue.Pool  # noqa: B018 - loads it
    os.chdir(sys.argv[1])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    resource.setrlimit(resource.RLIMIT_NPROC, (12, 12))
    asyncio.run(main("store"))
