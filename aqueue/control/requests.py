"""The requests to a queue and the responses: typed messages, the same on a socket and inside a process.

A request is one message, or for a long batch several. Its answer is any number of parts, then `Done` or `Failed`.
`PROTOCOL` grows with every change that an older side would misunderstand.
"""

from datetime import datetime

import msgspec

from aqueue.jobs.job import Job, State
from aqueue.jobs.spec import NewJob
from aqueue.store.pool_info import PoolInfo

PROTOCOL = 2


class Hello(msgspec.Struct, tag=True, frozen=True):
    """The first message of either side."""

    protocol: int = PROTOCOL


class Enqueue(msgspec.Struct, tag=True, frozen=True):
    """Store all `specs` or none. A long batch comes in several messages: all but the last have `more`.

    Answered after the last one by `Jobs`. The sender has filled in the defaults (`JobSpec.with_defaults`).
    """

    specs: list[NewJob]
    if_absent: bool = False
    more: bool = False


class Import(msgspec.Struct, tag=True, frozen=True):
    """Store these jobs as they are, all or none; in several messages like `Enqueue`. Answered by `Jobs`."""

    jobs: list[Job]
    more: bool = False


class Get(msgspec.Struct, tag=True, frozen=True):
    """Answered by `Jobs`, with their output, in the order of `ids`."""

    ids: list[str]


class Find(msgspec.Struct, tag=True, frozen=True):
    """Jobs by age, oldest first (`newest`: last first): answered by any number of `Jobs`.

    `finished_before` keeps those that ended before that time.
    """

    states: list[State] = []
    queue: str | None = None
    tag: str | None = None
    limit: int | None = None
    newest: bool = False
    output: bool = False
    finished_before: datetime | None = None


class Status(msgspec.Struct, tag=True, frozen=True):
    """Answered by `Overview`."""


class Wait(msgspec.Struct, tag=True, frozen=True):
    """Answered by `Jobs` as each of `ids` ends; an empty list waits for every unfinished job."""

    ids: list[str] = []


class Watch(msgspec.Struct, tag=True, frozen=True):
    """Every change of state from now on: answered by `Jobs`, one job each, until the client leaves or the pool ends."""


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Answered by `Jobs`: waiting ones at once, running ones when their process group has ended."""

    ids: list[str]


class Retry(msgspec.Struct, tag=True, frozen=True):
    """Put dead (or cancelled) jobs back; with no ids all dead ones. Answered by `Jobs`."""

    ids: list[str] = []


class Remove(msgspec.Struct, tag=True, frozen=True):
    """Forget jobs that have ended: these ids, or all that `find` finds. Answered by `Ids`."""

    ids: list[str] = []
    find: Find | None = None


class Stop(msgspec.Struct, tag=True, frozen=True):
    """End the pool: no new jobs, running ones may finish within its grace; `now` skips the grace.

    `leave_running` lets the commands go on for the next pool to adopt. Answered by `Done` at once; the
    connection closes when the pool is gone.
    """

    now: bool = False
    leave_running: bool = False


class StopPools(msgspec.Struct, tag=True, frozen=True):
    """End pools of any host, where hosts share the store: those with these `PoolInfo.run`. Answered by `Done` when
    they are gone."""

    runs: list[str]
    now: bool = False
    leave_running: bool = False


class Configure(msgspec.Struct, tag=True, frozen=True):
    """Settings that were changed in the pool's config file, key to value: the pool applies them at once."""

    changed: dict[str, float | int | str | None]


Request = Enqueue | Import | Get | Find | Status | Wait | Watch | Cancel | Retry | Remove | Stop | StopPools | Configure


class Jobs(msgspec.Struct, tag=True, frozen=True):
    """Jobs, as a part of an answer."""

    jobs: list[Job]


class Ids(msgspec.Struct, tag=True, frozen=True):
    """Ids of jobs, as a part of an answer."""

    ids: list[str]


class Slot(msgspec.Struct, frozen=True):
    """A busy worker slot, and the job that it runs."""

    worker: int
    job: Job


class Overview(msgspec.Struct, tag=True, frozen=True):
    """The queue as a whole: `counts` by queue and state, the running pool, its busy slots, what is due next.

    Where hosts share the store, `pools` are those of all hosts, and so are the busy slots. `trouble` says what keeps
    changes from being stored, while it lasts.
    """

    counts: dict[str, dict[State, int]]
    pool: PoolInfo | None = None
    pools: list[PoolInfo] = []
    busy: list[Slot] = []
    next_due: Job | None = None
    trouble: str | None = None


class Done(msgspec.Struct, tag=True, frozen=True):
    """The end of an answer."""


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The end of an answer that is an error: the name of its class in `aqueue.errors`, and its message."""

    kind: str
    message: str


Part = Jobs | Ids | Overview
Reply = Hello | Jobs | Ids | Overview | Done | Failed
