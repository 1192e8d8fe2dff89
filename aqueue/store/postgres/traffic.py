"""What a pool sends in a round trip: the parameters of its `statements`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from aqueue.jobs.job import Job
from aqueue.store.postgres import rows, statements
from aqueue.store.postgres.scan_position import ScanPositions

STATEMENTS = {
    (True, True): statements.SETTLE_AND_CLAIM,
    (True, False): statements.SETTLE,
    (False, True): statements.CLAIM,
}
"""What is sent, by whether there are results, and free workers."""


class Held(NamedTuple):
    """A job in the hands of a pool, and what it was before."""

    before: Job
    job: Job

    @classmethod
    def of(cls, row: rows.Row) -> "Held":
        """What a row of the columns `rows.PLAIN` that is processing says."""
        before = rows.record_of(row)
        return cls(before, rows.running(before, row))


def settlement(results: Sequence[Job], now: datetime) -> dict[str, Any]:
    """For the results of attempts."""
    return {"tokens": rows.array(job.history[-1].token for job in results), **rows.columns(results, now)}


def claim(slots: Sequence[int], bookmarks: ScanPositions) -> dict[str, Any]:
    """For a claim for these worker slots, which is sent now."""
    return {"slots": rows.array(slots), "count": len(slots), **bookmarks.parameters()}


def returned(run: str, unwanted: Sequence[Held]) -> dict[str, Any]:
    """For claims of pool `run` whose command was never started."""
    return {
        "run": run,
        "tokens": rows.array(held.job.history[-1].token for held in unwanted),
        "starts": rows.array(held.job.history[-1].started_at for held in unwanted),
        "seqs": rows.array(held.job.seq for held in unwanted),
        "states": rows.array(held.before.state.value for held in unwanted),
    }
