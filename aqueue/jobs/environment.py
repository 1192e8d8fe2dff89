"""The environment variables by which a command learns which job, attempt and worker it belongs to."""

from aqueue.jobs.job import Job

TOKEN = "AQUEUE_TOKEN"
"""Holds the token of the attempt, by which a later pool recognises what an earlier one started."""
QUEUE = "AQUEUE_QUEUE"
"""Also a setting: a job that is enqueued by a job goes to the same queue unless it names another."""
NAMES = frozenset({"AQUEUE_JOB_ID", "AQUEUE_ATTEMPT", "AQUEUE_WORKER", QUEUE, TOKEN})
"""All of them."""


def attempt_variables(job: Job) -> dict[str, str]:
    """The variables for the latest attempt of `job`."""
    attempt = job.history[-1]
    return {
        "AQUEUE_JOB_ID": job.id,
        "AQUEUE_ATTEMPT": str(len(job.history)),
        "AQUEUE_WORKER": str(attempt.worker),
        QUEUE: job.queue,
        TOKEN: attempt.token,
    }
