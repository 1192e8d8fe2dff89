"""Random operations on a store, with a crash and a new start at any point, against a model of what must be there."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aqueue.errors import DuplicateJob, InvalidRequest, UnknownJob
from aqueue.jobs.job import Job, Outcome, State, utc_now
from aqueue.jobs.lifecycle import settled
from aqueue.jobs.spec import Defaults, JobSpec
from aqueue.settings.config import Config
from aqueue.store.open import open_pool_store
from aqueue.store.protocol import PoolStore, Query

NAMES = st.sampled_from([f"n{number}" for number in range(12)])
OUTCOMES = st.one_of(
    st.builds(Outcome, exit_code=st.integers(0, 2), stdout=st.text(max_size=20), stderr=st.sampled_from(["", "\n"])),
    st.just(Outcome(interrupted=True, error="lost")),
    st.just(Outcome(cancelled=True, signal=15)),
)
INTERRUPTIONS = 3


class StoreMachine(RuleBasedStateMachine):
    """`model` is what a reader must find; `held` are the attempts under way."""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.folders = Path(tempfile.mkdtemp(prefix="aqueue-model-"))
        self.opened = 0
        self.model: dict[str, Job] = {}
        self.held: dict[str, Job] = {}
        self.used: set[str] = set()
        self._enter()

    def _enter(self) -> None:
        self.store: PoolStore = open_pool_store(
            Config(str(self.folders / str(self.opened)), max_interruptions=INTERRUPTIONS)
        )
        self.runner.run(self.store.__aenter__())

    def _config(self) -> Config:
        return Config(str(self.folders / str(self.opened)), max_interruptions=INTERRUPTIONS)

    def do(self, step: Any) -> Any:
        return self.runner.run(step)

    @rule(names=st.lists(NAMES, min_size=1, max_size=4))
    def add(self, names: list[str]) -> None:
        specs = [
            JobSpec(command="true", id=name).with_defaults(Defaults(max_retries=1, backoff_base=0)) for name in names
        ]
        if self.used & set(names) or len(set(names)) < len(names):
            with pytest.raises(DuplicateJob):
                self.do(self.store.add(specs))
        else:
            self.model.update((job.id, job) for job in self.do(self.store.add(specs)))
            self.used |= set(names)

    def waiting(self) -> bool:
        return any(job.state in (State.PENDING, State.FAILED) for job in self.model.values())

    @precondition(waiting)
    @rule(worker=st.integers(1, 3))
    def claim(self, worker: int) -> None:
        job = self.do(asyncio.wait_for(self.store.claim(worker), 5))
        assert self.model[job.id].state in (State.PENDING, State.FAILED)
        self.model[job.id] = self.held[job.id] = job

    @precondition(lambda self: bool(self.held))
    @rule(outcome=OUTCOMES, data=st.data())
    def settle(self, outcome: Outcome, data: Any) -> None:
        job = self.held.pop(data.draw(st.sampled_from(sorted(self.held))))
        expected = settled(job, outcome, now=utc_now(), max_interruptions=INTERRUPTIONS)
        self.do(self._settle(job, outcome))
        self.model[job.id] = expected

    async def _settle(self, job: Job, outcome: Outcome) -> None:
        durable = asyncio.Event()
        unsubscribe = self.store.subscribe(lambda _: durable.set())
        await self.store.settle(job, outcome)
        await asyncio.wait_for(durable.wait(), 5)
        unsubscribe()

    @rule(name=NAMES)
    def cancel(self, name: str) -> None:
        self._steer(name, self.store.cancel, {State.PENDING, State.FAILED})

    @rule(name=NAMES)
    def retry(self, name: str) -> None:
        self._steer(name, self.store.retry, {State.DEAD, State.CANCELLED})

    def _steer(self, name: str, change: Any, allowed: set[State]) -> None:
        if name in self.model and self.model[name].state in allowed:
            self.model[name] = self.do(change(name))
        else:
            with pytest.raises((InvalidRequest, UnknownJob)):
                self.do(change(name))

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if name in self.model and self.model[name].state is not State.PROCESSING:
            self.do(self.store.remove([name]))
            del self.model[name]
        else:
            with pytest.raises((InvalidRequest, UnknownJob)):
                self.do(self.store.remove([name]))

    @rule(
        tail=st.lists(
            st.sampled_from([b"\n", b"\0" * 9, b'{"type":"job","id":"', b'{"type":"removal",', b'{"synced":', b"\xff"])
        )
    )
    def crash(self, tail: list[bytes]) -> None:
        """What is on the disk now is all that the next opening gets, with parts of a write behind it."""
        data = (self.folders / str(self.opened) / "jobs.jsonl").read_bytes()
        self.do(self.store.__aexit__(None, None, None))
        self.opened += 1
        (self.folders / str(self.opened)).mkdir(mode=0o700)
        (self.folders / str(self.opened) / "jobs.jsonl").write_bytes(data + b"".join(tail))
        self._enter()
        self.held = {name: self._found()[name] for name in self.held}

    @rule()
    def reopen(self) -> None:
        self.do(self.store.__aexit__(None, None, None))
        self._enter()

    def _found(self) -> dict[str, Job]:
        async def read() -> dict[str, Job]:
            return {job.id: job async for part in self.store.find(Query(output=True)) for job in part}

        return self.runner.run(read())

    @invariant()
    def holds_what_was_acknowledged(self) -> None:
        if not hasattr(self, "store"):
            return
        found = self._found()
        assert {name: essence(job) for name, job in found.items()} == {n: essence(j) for n, j in self.model.items()}
        counts = dict.fromkeys(State, 0)
        for states in self.do(self.store.counts()).values():
            for state, number in states.items():
                counts[state] += number
        assert counts == {state: sum(job.state is state for job in self.model.values()) for state in State}

    def teardown(self) -> None:
        self.do(self.store.__aexit__(None, None, None))
        self.runner.close()
        shutil.rmtree(self.folders)


def essence(job: Job) -> tuple[Any, ...]:
    """What must survive: where the job stands, every attempt's end, and what the last one printed."""
    ends = [(attempt.exit_code, attempt.signal, attempt.interrupted, attempt.token) for attempt in job.history]
    printed = ("", "") if job.state is State.PROCESSING else (job.stdout or "", job.stderr or "")
    return (job.state, job.attempts, job.interruptions, job.seq, ends, printed)


@pytest.mark.slow
def test_the_store_agrees_with_its_model_whenever_it_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aqueue.store.journal.group_commit.COMPACT_AT", 5)
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
