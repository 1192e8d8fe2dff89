"""Which job is next."""

import random
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from aqueue.jobs.job import Job, Outcome, State
from aqueue.jobs.lifecycle import claimed, retried, settled
from aqueue.store.journal.priority_queue import PriorityQueue

NOW = 1_000_000.0
"""The wall clock, a POSIX timestamp."""
CLOCK = 50.0
"""The monotonic clock at that moment."""
DAY = 86400.0


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def waiting(name: str, seq: int, *, priority: int = 0, due: float | None = None, queue: str = "default") -> Job:
    run_at = None if due is None else at(due)
    created = at(NOW - 1000 + seq)
    return Job(id=name, seq=seq, command="x", created_at=created, priority=priority, run_at=run_at, queue=queue)


class Board:
    """A queue over jobs that are put in one by one."""

    def __init__(self, *queues: str) -> None:
        self.jobs: dict[str, Job] = {}
        self.queue = PriorityQueue(self.jobs, frozenset(queues))

    def put(self, job: Job) -> bool:
        self.jobs[job.id] = job
        return self.queue.put(job, NOW, CLOCK)

    def next_due(self) -> float | None:
        later = self.queue.peek_later(NOW, CLOCK)
        return None if later is None else later[0]

    def after(self, seconds: float) -> int:
        """Let so much time pass; how many jobs have become due."""
        return self.queue.advance(NOW + seconds, CLOCK + seconds)

    def order(self) -> list[str]:
        names = []
        while (job := self.queue.pop()) is not None:
            names.append(job.id)
        return names


@pytest.fixture
def board() -> Board:
    return Board()


def test_an_empty_queue_has_nothing_to_start_and_nothing_to_wait_for(board: Board) -> None:
    assert (board.queue.pop(), board.queue.peek(), board.next_due()) == (None, None, None)


def test_jobs_start_by_age(board: Board) -> None:
    for seq in (2, 3, 1):
        board.put(waiting(f"j{seq}", seq))
    assert board.order() == ["j1", "j2", "j3"]


def test_priority_comes_before_age(board: Board) -> None:
    board.put(waiting("old", 1))
    board.put(waiting("low", 2, priority=-1))
    board.put(waiting("high", 3, priority=5))
    assert board.order() == ["high", "old", "low"]


def test_of_equal_priority_the_earliest_due_is_first(board: Board) -> None:
    board.put(waiting("later", 1, due=NOW - 1))
    board.put(waiting("sooner", 2, due=NOW - 2))
    assert board.order() == ["sooner", "later"]


def test_a_job_that_is_not_due_waits_whatever_its_priority(board: Board) -> None:
    assert not board.put(waiting("later", 1, priority=100, due=NOW + 10))
    assert board.put(waiting("now", 2))
    assert board.order() == ["now"]
    assert board.next_due() == 10


def test_a_job_starts_when_its_time_has_come_and_not_before(board: Board) -> None:
    board.put(waiting("a", 1, due=NOW + 10))
    assert board.after(9.999) == 0
    assert board.queue.pop() is None
    assert board.after(10) == 1
    assert board.order() == ["a"]


def test_jobs_that_become_due_together_start_by_priority(board: Board) -> None:
    board.put(waiting("low", 1, due=NOW + 1))
    board.put(waiting("high", 2, due=NOW + 2, priority=1))
    assert board.after(5) == 2
    assert board.order() == ["high", "low"]


def test_a_job_that_changed_meanwhile_is_skipped(board: Board) -> None:
    board.put(waiting("a", 1))
    board.put(waiting("b", 2))
    board.jobs["a"] = replace(board.jobs["a"], state=State.CANCELLED)
    assert board.order() == ["b"]


def test_a_job_that_was_removed_is_skipped_also_where_it_is_waited_for(board: Board) -> None:
    board.put(waiting("a", 1, due=NOW + 5))
    board.put(waiting("b", 2, due=NOW + 8))
    del board.jobs["a"]
    assert board.next_due() == 8
    assert board.after(9) == 1


def test_a_job_put_in_again_for_another_time_starts_once(board: Board) -> None:
    board.put(waiting("a", 1, due=NOW + 5))
    board.put(waiting("a", 1, due=NOW + 2))
    assert board.after(9) == 1
    assert board.order() == ["a"]


def test_an_id_that_another_job_has_now_is_not_taken_for_the_first(board: Board) -> None:
    board.put(waiting("a", 1, priority=9))
    board.put(waiting("a", 2, priority=-9))
    board.put(waiting("b", 3))
    assert board.order() == ["b", "a"]


def delayed(name: str, seq: int, seconds: float) -> Job:
    return replace(waiting(name, seq, due=NOW + seconds), delay=seconds)


def failed(name: str, seq: int, seconds: float) -> Job:
    return replace(waiting(name, seq, due=NOW + seconds), state=State.FAILED, updated_at=at(NOW))


@pytest.mark.parametrize("make", [delayed, failed])
@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_a_wall_clock_that_is_set_changes_no_wait(board: Board, make: Callable[..., Job], jump: float) -> None:
    board.put(make("a", 1, 10))
    assert board.queue.peek_later(NOW + jump, CLOCK) == (10, board.jobs["a"])
    assert board.queue.advance(NOW + jump + 9.9, CLOCK + 9.9) == 0
    assert board.queue.advance(NOW + jump + 10, CLOCK + 10) == 1


def test_a_time_comes_when_the_wall_clock_says_so_whatever_it_was_set_to(board: Board) -> None:
    board.put(waiting("a", 1, due=NOW + 10))
    assert board.queue.peek_later(NOW - DAY, CLOCK + 10) == (DAY + 10, board.jobs["a"])
    assert board.queue.advance(NOW - DAY, CLOCK + 10) == 0
    assert board.queue.advance(NOW + 10, CLOCK + 11) == 1


def test_of_waits_and_times_the_first_is_waited_for(board: Board) -> None:
    board.put(waiting("time", 1, due=NOW + 10))
    board.put(delayed("wait", 2, 20))
    assert board.next_due() == 10
    assert board.after(10) == 1
    assert board.queue.peek_later(NOW + 10, CLOCK + 10) == (10, board.jobs["wait"])


@pytest.mark.parametrize("make", [delayed, failed])
def test_a_wait_is_no_longer_than_it_was_when_the_wall_clock_was_set_back_while_there_was_no_pool(
    board: Board, make: Callable[..., Job]
) -> None:
    board.jobs["a"] = make("a", 1, 10)
    board.queue.fill(NOW - DAY, CLOCK)
    assert board.next_due() == 10


def test_an_interrupted_or_revived_job_is_due_whatever_the_wall_clock_was_set_to(board: Board) -> None:
    outcome = Outcome(interrupted=True)
    running = claimed(waiting("a", 1, due=NOW), worker=1, token="t", now=at(NOW))
    board.jobs["a"] = settled(running, outcome, now=at(NOW), max_interruptions=5)
    dead = settled(replace(running, id="b", seq=2), outcome, now=at(NOW), max_interruptions=1)
    board.jobs["b"] = retried(dead, now=at(NOW))
    board.queue.fill(NOW - DAY, CLOCK)
    assert board.order() == ["a", "b"]


def test_other_queues_are_left_alone() -> None:
    board = Board("x", "y")
    assert not board.put(waiting("z1", 1, queue="z"))
    assert board.put(waiting("x1", 2, queue="x"))
    assert board.put(waiting("y1", 3, queue="y"))
    assert board.order() == ["x1", "y1"]


def test_a_full_store_is_taken_in_at_once_in_the_same_order() -> None:
    jobs = {
        job.id: job
        for job in (
            waiting("late", 1, due=NOW + 1),
            waiting("b", 2),
            waiting("a", 3, priority=1),
            waiting("other", 4, queue="other"),
            replace(waiting("running", 5), state=State.PROCESSING),
            replace(waiting("retry", 6, due=NOW - 5000), state=State.FAILED),
        )
    }
    board = Board("default")
    board.jobs.update(jobs)
    board.queue.fill(NOW, CLOCK)
    assert board.order() == ["a", "retry", "b"]
    assert board.next_due() == 1


@pytest.mark.parametrize("priorities", [1, 3, 40, 1000])
def test_whatever_order_jobs_come_in_they_start_in_the_same(board: Board, priorities: int) -> None:
    chance = random.Random(priorities)
    jobs = [
        waiting(f"j{seq}", seq, priority=chance.randrange(priorities), due=NOW - chance.randrange(50))
        for seq in range(500)
    ]
    for job in chance.sample(jobs, len(jobs)):
        board.put(job)
    for job in chance.sample(jobs, 100):
        del board.jobs[job.id]
    left = sorted(board.jobs.values(), key=lambda job: (-job.priority, job.due_at, job.seq))
    assert board.order() == [job.id for job in left]


def test_jobs_that_come_while_others_start_take_their_place(board: Board) -> None:
    chance, seq, started = random.Random(7), 0, 0
    for _ in range(300):
        for _ in range(chance.randrange(5)):
            seq += 1
            board.put(waiting(f"j{seq}", seq, priority=chance.randrange(30), due=NOW - chance.randrange(50)))
        job = board.queue.pop()
        if job is not None:
            best = min(board.jobs.values(), key=lambda job: (-job.priority, job.due_at, job.seq))
            assert job is best
            del board.jobs[job.id]
            started += 1
    assert started > 200


def test_a_job_that_was_taken_back_starts_again_and_once(board: Board) -> None:
    board.put(waiting("a", 1))
    job = board.queue.pop()
    assert job is not None
    board.put(job)
    board.put(job)
    assert board.queue.pop() is job
    board.jobs["a"] = replace(job, state=State.PROCESSING)
    assert board.queue.pop() is None
