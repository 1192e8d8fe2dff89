"""Long batches of jobs, cut into messages: the one place that decides how long a message gets.

A batch of any size is one change of the store, but none of its messages is long: whoever reads one holds it in
memory, and nobody else has a turn while it is decoded and checked. `aqueue.control.assembly` is the other side.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from msgspec.structs import replace

from aqueue.control.framing import MAX_REQUEST, encode
from aqueue.control.requests import Enqueue, Import, Jobs, Part, Request
from aqueue.jobs.job import Job
from aqueue.jobs.spec import NewJob

T = TypeVar("T")
R = TypeVar("R", Enqueue, Import)

JOBS_PER_REQUEST = 1000
"""How many jobs one message of a batch has at most."""
JOBS_PER_REPLY = 500
"""How many jobs one message of an answer has at most: they come with their history, and may come with their output."""


def enqueue_requests(specs: Iterable[NewJob], *, if_absent: bool = False) -> Iterator[Enqueue]:
    """One batch of new jobs as requests. Each is made when it is needed, so that `specs` may be read while they go."""
    return _cut(specs, lambda part, more: Enqueue(part, if_absent, more))


def import_requests(jobs: Iterable[Job]) -> Iterator[Import]:
    """One batch of jobs from another store as requests."""
    return _cut(jobs, Import)


def _cut(jobs: Iterable[T], request: Callable[[list[T], bool], R]) -> Iterator[R]:
    """At least one request; all but the last say that more follow."""
    rest = iter(jobs)
    part = list(islice(rest, JOBS_PER_REQUEST))
    while following := list(islice(rest, JOBS_PER_REQUEST)):
        yield request(part, True)
        part = following
    yield request(part, False)


def encode_request(request: Request) -> Iterator[bytes]:
    """The bytes of a request, in as many messages as it takes so that none is too long."""
    data = encode(request)
    if len(data) <= MAX_REQUEST or not isinstance(request, Enqueue | Import):
        yield data
        return
    field = "specs" if isinstance(request, Enqueue) else "jobs"
    jobs = getattr(request, field)
    if len(jobs) < 2:  # the server says what is wrong with it
        yield data
        return
    half = len(jobs) // 2
    yield from encode_request(replace(request, **{field: jobs[:half], "more": True}))
    yield from encode_request(replace(request, **{field: jobs[half:]}))


def cut_reply(part: Part) -> Iterator[Part]:
    """A part of an answer as parts that are short enough for one message each."""
    if isinstance(part, Jobs) and len(part.jobs) > JOBS_PER_REPLY:
        for start in range(0, len(part.jobs), JOBS_PER_REPLY):
            yield Jobs(part.jobs[start : start + JOBS_PER_REPLY])
    else:
        yield part
