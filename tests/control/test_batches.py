"""Long batches: cut into requests while they are made, and put together again or refused as a whole."""

from collections.abc import Iterator

import pytest

from aqueue.control import assembly
from aqueue.control.assembly import BatchAssembler
from aqueue.control.batches import JOBS_PER_REQUEST, enqueue_requests, import_requests
from aqueue.control.requests import Enqueue, Import, Status
from aqueue.errors import InvalidRequest
from aqueue.jobs.job import Job, utc_now
from aqueue.jobs.spec import NewJob

SPEC = NewJob(command="true")
JOB = Job(id="a", seq=0, command="true", created_at=utc_now())


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(0, [0]), (1, [1]), (JOBS_PER_REQUEST, [1000]), (JOBS_PER_REQUEST + 1, [1000, 1]), (2500, [1000, 1000, 500])],
)
def test_a_batch_is_cut_and_only_its_last_request_ends_it(count: int, sizes: list[int]) -> None:
    enqueue = list(enqueue_requests([SPEC] * count, if_absent=True))
    assert [len(request.specs) for request in enqueue] == sizes
    assert [request.more for request in enqueue] == [True] * (len(sizes) - 1) + [False]
    assert all(request.if_absent for request in enqueue)
    jobs = list(import_requests([JOB] * count))
    assert [len(request.jobs) for request in jobs] == sizes
    assert [request.more for request in jobs] == [True] * (len(sizes) - 1) + [False]


def test_jobs_are_taken_from_their_source_only_when_they_are_needed() -> None:
    taken = 0

    def source() -> Iterator[NewJob]:
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield SPEC

    requests = enqueue_requests(source())
    next(requests)
    assert taken == 2 * JOBS_PER_REQUEST  # one request ahead, to know whether there is more


def test_a_batch_is_whole_with_its_last_request() -> None:
    batches = BatchAssembler()
    sent = list(enqueue_requests([NewJob(command=str(n)) for n in range(2500)], if_absent=True))
    assert [batches.add(request) for request in sent[:-1]] == [None, None]
    whole = batches.add(sent[-1])
    assert isinstance(whole, Enqueue)
    assert [spec.command for spec in whole.specs] == [str(n) for n in range(2500)]
    assert (whole.if_absent, whole.more) == (True, False)
    assert batches.add(Import([JOB])) == Import([JOB])


def test_what_is_no_batch_passes_between_the_parts_of_one() -> None:
    batches = BatchAssembler()
    assert batches.add(Enqueue([SPEC], more=True)) is None
    assert batches.add(Status()) == Status()
    assert batches.add(Enqueue([SPEC])) == Enqueue([SPEC, SPEC])


def test_a_batch_that_never_ends_is_refused_once_it_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "JOBS_PER_BATCH", 5)
    batches = BatchAssembler()
    assert batches.add(Enqueue([SPEC] * 5, more=True)) is None
    with pytest.raises(InvalidRequest, match="more than 5 jobs in one batch"):
        batches.add(Enqueue([SPEC], more=True))
    assert batches.add(Enqueue([SPEC])) is None  # the rest of what was refused
    assert batches.add(Enqueue([SPEC])) == Enqueue([SPEC])
