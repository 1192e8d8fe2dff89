"""One of many processes that change a store at the same time: `writing.py STORE NAME`.

Prints, as JSON, what must be there afterwards: for each job its state, None where it was removed, and "unknown"
where the pool went away before it answered. A job that was asked for under a name that exists is refused.
"""

import json
import sys

from aqueue.control.client import Client
from aqueue.control.requests import Cancel, Enqueue, Remove, Request, Retry
from aqueue.errors import DuplicateJob, InvalidRequest, PoolGone, UnknownJob
from aqueue.jobs.spec import Defaults, JobSpec
from aqueue.settings.config import Config


def main(store: str, name: str) -> None:
    expected: dict[str, str | None] = {}

    def ask(job: str, request: Request, state: str | None) -> None:
        if expected.get(job) == "unknown":
            return
        try:
            with Client(Config(store)) as client:
                for _ in client.ask(request):
                    pass
            expected[job] = state
        except PoolGone:
            expected[job] = "unknown"

    def refused(request: Request, kind: type[Exception]) -> None:
        try:
            with Client(Config(store)) as client:
                for _ in client.ask(request):
                    pass
        except kind:
            return
        except PoolGone:
            return
        raise AssertionError(f"{request} was not refused")

    def add(job: str, **fields: object) -> Enqueue:
        return Enqueue([JobSpec(command="true", id=job, **fields).with_defaults(Defaults())])  # type: ignore[arg-type]

    for number in range(3):
        job = f"{name}-{number}"
        ask(job, add(job, delay=3600), "pending")
        if expected[job] != "unknown":
            refused(add(job), DuplicateJob)
            refused(Retry([job]), InvalidRequest)
    ask(f"{name}-0", Cancel([f"{name}-0"]), "cancelled")
    ask(f"{name}-0", Retry([f"{name}-0"]), "completed")
    ask(f"{name}-1", Cancel([f"{name}-1"]), "cancelled")
    ask(f"{name}-2", Cancel([f"{name}-2"]), "cancelled")
    ask(f"{name}-2", Remove([f"{name}-2"]), None)
    if expected[f"{name}-2"] is None:
        refused(Cancel([f"{name}-2"]), UnknownJob)
        refused(add(f"{name}-2"), DuplicateJob)
    ask(f"{name}-run", add(f"{name}-run"), "completed")
    json.dump(expected, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
