"""The parameters of the statements that settle, claim and return many jobs at once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from aqueue.jobs.job import Job
from aqueue.store.postgres import rows
from aqueue.store.postgres.rows import ClaimedJob
from aqueue.store.postgres.scan_position import ScanPositions


def settle(results: Sequence[Job], now: datetime) -> dict[str, str]:
    """For `statements.SETTLE`."""
    tokens = rows.array(job.history[-1].token for job in results)
    return {"tokens": tokens, **rows.write_parameters(results, now)}


def claim(slots: Sequence[int], positions: ScanPositions) -> dict[str, Any]:
    """For a `statements.CLAIM` that is sent now."""
    return {"slots": rows.array(slots), "count": len(slots), **positions.parameters()}


def return_claimed(run: str, returning: Sequence[ClaimedJob]) -> dict[str, str]:
    """For `statements.RETURN`."""
    return {
        "run": run,
        "tokens": rows.array(claimed.job.history[-1].token for claimed in returning),
        "starts": rows.array(claimed.job.history[-1].started_at for claimed in returning),
        "seqs": rows.array(claimed.job.seq for claimed in returning),
        "states": rows.array(claimed.before.state.value for claimed in returning),
    }
