"""One attempt: start the command, capture its output, limit its time, end its process group.

Output goes straight to files, never through the event loop, so it survives the pool and has any size. The exit
status is also written by the shell that runs the command (`aqueue.attempts.shell`), where a later pool finds it
if this one is gone. A command that outlived its pool is adopted, and from then on treated like any other.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping

from msgspec.structs import replace

from aqueue.attempts import shell
from aqueue.attempts.files import AttemptFiles
from aqueue.attempts.orphans import disown, find_orphans, group_members
from aqueue.attempts.running import RunningAttempt
from aqueue.jobs.environment import attempt_variables
from aqueue.jobs.job import Job, Outcome
from aqueue.settings.config import Config
from aqueue.system import KILL, process_age, wait_for_exit

_TRUNCATE_EVERY = 1000
_STOPPED = "interrupted: the pool was stopped"
_MARKED = "interrupted: its pool was stopped, was gone, or could not reach the database"


class Runner:
    """Runs the attempts of one pool."""

    def __init__(self, run: str, attempt_files: AttemptFiles, config: Config) -> None:
        """`run` names this pool among all that ever served the store."""
        self.run_id = run
        self.files = attempt_files
        self.config = config
        self.running: dict[str, RunningAttempt] = {}
        self.left = False
        """Whether a command was left running: its exit status is still to come."""
        self._ending = self._leaving = False
        self._status: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._inherited = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}

    async def run(self, job: Job) -> Outcome | None:
        """Run the command of a claimed job to its end; None if it was left running."""
        return await self._attend(job, self._run)

    async def adopt(self, job: Job, leader: int) -> Outcome | None:
        """Wait for a command that an earlier pool started and that runs as process `leader`; like `run`."""

        async def wait(command: RunningAttempt) -> Outcome | None:
            command.started(leader, None if job.timeout is None else job.timeout - process_age(leader))
            with command.left:
                await wait_for_exit(leader)
                return await self.conclude(command)
            return None

        return await self._attend(job, wait)

    async def _attend(self, job: Job, wait: Callable[[RunningAttempt], Awaitable[Outcome | None]]) -> Outcome | None:
        """Have the attempt among those that can be ended or left while `wait` sees to it."""
        command = self.running[job.id] = RunningAttempt(job, self.config.kill_after)
        if self._leaving:
            command.leave()
        elif self._ending:
            command.end(_STOPPED, interrupted=True)
        try:
            outcome = await wait(command)
            self.left |= outcome is None
            return outcome
        finally:
            command.release()
            del self.running[job.id]

    async def _run(self, command: RunningAttempt) -> Outcome | None:
        job = command.job
        if command.ending is not None:
            return self._ended(command, None, None)
        try:
            process = await self._start(job)
        except (OSError, ValueError) as error:
            command.end(f"cannot start: {_reason(error)}")
            return self._ended(command, None, None)
        except RuntimeError as error:  # it was started, but there was no thread to wait for it
            command.end(f"cannot start: {error}")
            alive = find_orphans().get(job.history[-1].token)
            await self.end_survivors(command, alive.processes if alive else [])
            return self._ended(command, None, None)
        command.started(process.pid, job.timeout)
        with command.left:
            code = await process.wait()
            if code or command.ending is not None:
                await self._end_group(command, code)
            return replace(self._outcome(command, code), finished_at=command.ended_at)
        disown(process)
        return None

    def end_all(self) -> None:
        """End what runs, and what is begun from now on."""
        self._ending = True
        self.interrupt_all(_STOPPED)

    def interrupt_all(self, reason: str) -> None:
        """End what runs now."""
        for command in self.running.values():
            if command.ending is None:  # the next pool is to know it, if this one cannot store it
                self.files.mark_interrupted(command.job.history[-1].token)
            command.end(reason, interrupted=True)

    def leave_all(self) -> None:
        """Let what runs, and what is begun from now on, go on for a later pool."""
        self._leaving = True
        for command in self.running.values():
            command.leave()

    async def end_survivors(self, command: RunningAttempt, alive: list[int]) -> None:
        """End the processes of an attempt that are not this pool's children, or not known to it."""
        groups = set()
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                groups.add(os.getpgid(pid))
        for group in groups:
            command.started(group, None)
            command.end("ended: its pool was gone", interrupted=True)
            await self._end_group(command, 0)
            command.release()

    async def conclude(self, command: RunningAttempt) -> Outcome:
        """The outcome of an earlier pool's attempt whose shell has ended."""
        token = command.job.history[-1].token
        report = self.files.read_report(token)
        if report.interrupted and command.ending is None:
            command.end(_MARKED, interrupted=True)
        if report.status is None:
            await self._end_group(command, -KILL)
            if command.ending is None:
                command.end("lost with its pool, and nothing tells how it ended", interrupted=True)
            return self._ended(command, None, None)
        if command.ending is not None:
            await self._end_group(command, report.status)
        outcome = self._ended(command, report.exit_code, report.signal)
        return replace(outcome, finished_at=self.files.reported_at(token))

    def close(self) -> None:
        """Let go of the slots' files. They stay until all that they say is stored."""
        for fd in self._status.values():
            os.close(fd)
        self._status.clear()

    async def _start(self, job: Job) -> asyncio.subprocess.Process:
        token = job.history[-1].token
        out = self.files.create_output(job, "out")
        try:
            err = self.files.create_output(job, "err")
            try:
                return await asyncio.create_subprocess_shell(
                    shell.reporting_script(job.command, token),
                    executable=shell.SHELL,
                    stdin=self._slot_status(job.history[-1].worker),
                    stdout=out,
                    stderr=err,
                    cwd=job.cwd,
                    env=environment(job, self._inherited),
                    start_new_session=True,
                )
            finally:
                os.close(err)
        finally:
            os.close(out)

    def _slot_status(self, slot: int) -> int:
        """The slot's status file, emptied now and then: what an earlier attempt of this slot left in it is in
        the journal by the time the slot has claimed its next job."""
        fd = self._status.get(slot)
        if fd is None:
            fd = self._status[slot] = self.files.open_status(self.run_id, slot)
        self._starts[slot] = starts = self._starts.get(slot, 0) + 1
        if starts % _TRUNCATE_EVERY == 0:
            os.ftruncate(fd, 0)
        return fd

    async def _end_group(self, command: RunningAttempt, code: int) -> None:
        """End what is left of the group of a command that was ended, or whose shell was killed."""
        if command.group is None or (command.ending is None and code >= 0):
            return
        while members := group_members(command.group):
            if code < 0 and command.ending is None:
                command.kill()
            for member in members:
                await wait_for_exit(member)

    def _outcome(self, command: RunningAttempt, code: int) -> Outcome:
        """The outcome of an attempt whose shell ended with `code` (negative: by that signal)."""
        if code == 0:
            return self._ended(command, 0, None)
        token = command.job.history[-1].token
        fd = self._status[command.job.history[-1].worker]
        size = os.fstat(fd).st_size
        tail = os.pread(fd, shell.STATUS_TAIL, max(0, size - shell.STATUS_TAIL)).decode("utf-8", "replace")
        report = shell.parse_report(tail, token)
        if command.ending is None and report.interrupted:  # by the watchdog, in the very last moment
            command.end(_MARKED, interrupted=True)
        if code < 0:
            return self._ended(command, None, -code)
        if report.start_error is not None:
            command.end(f"cannot start: {report.start_error}")
            return self._ended(command, None, None)
        if report.status is None:  # on a full disk the shell could not write its line
            return self._ended(command, code, None)
        return self._ended(command, report.exit_code, report.signal)

    def _ended(self, command: RunningAttempt, exit_code: int | None, signal: int | None) -> Outcome:
        return Outcome(
            exit_code=exit_code,
            signal=signal,
            error=command.ending,
            interrupted=command.interrupted,
            cancelled=command.cancelled,
            pid=command.group,
            stdout=self.files.peek(command.job, "out"),
            stderr=self.files.peek(command.job, "err"),
        )


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError) and error.filename:
        return f"{error.strerror}: {os.fsdecode(error.filename)}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def environment(job: Job, inherited: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The environment of `job`'s running attempt."""
    own = {**(job.env or {}), **attempt_variables(job)}
    return {**inherited, **{os.fsencode(name): os.fsencode(value) for name, value in own.items()}}
