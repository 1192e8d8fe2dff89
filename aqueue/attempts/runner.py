"""Runs attempts: start the command, capture its output, limit its time, end its process group.

Output goes straight to files, never through the event loop, so it survives the pool and has any size. The exit status
is also written by the shell that runs the command (`aqueue.attempts.shell`), where a later pool finds it if this one is
gone. A command that outlived its pool is adopted, and from then on treated like any other.
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
from aqueue.attempts.shell import ShellExit, StatusReport
from aqueue.attempts.status_file import StatusFile
from aqueue.jobs.environment import attempt_variables
from aqueue.jobs.job import Job, Outcome
from aqueue.settings.config import Config
from aqueue.system import KILL, process_age, wait_for_exit

_POOL_STOPPED = "interrupted: the pool was stopped"
_MARKED = "interrupted: its pool was stopped, was gone, or could not reach the database"
_POOL_GONE = "ended: its pool was gone"
_LOST = "lost with its pool, and nothing tells how it ended"


class Runner:
    """Runs the attempts of one pool."""

    def __init__(self, run: str, files: AttemptFiles, config: Config) -> None:
        """`run` names this pool among all that ever served the store."""
        self.files = files
        self.config = config
        self.running: dict[str, RunningAttempt] = {}
        """By the job's id."""
        self.left_running = False
        """Whether a command was left running: its exit status is still to come."""
        self._run_id = run
        self._ending = self._leaving = False
        self._status_files: dict[int, StatusFile] = {}
        self._inherited = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}

    async def run(self, job: Job) -> Outcome | None:
        """Run the command of a claimed job to its end; None if it was left running."""
        return await self._track(job, self._run)

    async def adopt(self, job: Job, shell_pid: int) -> Outcome | None:
        """Wait for a command that an earlier pool started, whose outer shell is process `shell_pid`; like `run`."""

        async def wait(attempt: RunningAttempt) -> Outcome | None:
            attempt.started(shell_pid, None if job.timeout is None else job.timeout - process_age(shell_pid))
            with attempt.waiting:
                await wait_for_exit(shell_pid)
                return await self.conclude(attempt)
            return None

        return await self._track(job, wait)

    async def _track(self, job: Job, run: Callable[[RunningAttempt], Awaitable[Outcome | None]]) -> Outcome | None:
        """Keep the attempt in `running`, where it can be ended or left running, until `run` is done with it."""
        attempt = self.running[job.id] = RunningAttempt(job, self.config.kill_after)
        if self._leaving:
            attempt.leave_running()
        elif self._ending:
            attempt.end(_POOL_STOPPED, interrupted=True)
        try:
            outcome = await run(attempt)
            self.left_running |= outcome is None
            return outcome
        finally:
            attempt.stop_timers()
            del self.running[job.id]

    async def _run(self, attempt: RunningAttempt) -> Outcome | None:
        job = attempt.job
        if attempt.end_reason is not None:
            return self._outcome(attempt, ShellExit())
        try:
            process = await self._start(job)
        except (OSError, ValueError) as error:
            return self._outcome(attempt, ShellExit(error=f"cannot start: {_reason(error)}"))
        except RuntimeError as error:  # it was started, but there was no thread to wait for it
            attempt.end(f"cannot start: {error}")
            orphan = find_orphans().get(attempt.token)
            await self.end_orphan(attempt, orphan.processes if orphan else [])
            return self._outcome(attempt, ShellExit())
        attempt.started(process.pid, job.timeout)
        with attempt.waiting:
            returncode = await process.wait()
            if returncode or attempt.end_reason is not None:
                await self._end_group(attempt, returncode)
            return replace(self._outcome(attempt, self._interpret(attempt, returncode)), finished_at=attempt.ended_at)
        disown(process)
        return None

    def end_all(self) -> None:
        """End what runs, and what is started from now on."""
        self._ending = True
        self.interrupt_all(_POOL_STOPPED)

    def interrupt_all(self, reason: str) -> None:
        """End what runs now, which costs the jobs no retry."""
        for attempt in self.running.values():
            if attempt.end_reason is None:  # for the next pool, if this one cannot store the outcome
                self.files.mark_interrupted(attempt.token)
            attempt.end(reason, interrupted=True)

    def leave_all_running(self) -> None:
        """Leave what runs, and what is started from now on, for a later pool to adopt."""
        self._leaving = True
        for attempt in self.running.values():
            attempt.leave_running()

    async def end_orphan(self, attempt: RunningAttempt, processes: list[int]) -> None:
        """End the processes of an attempt, which are not this pool's children or not known to it."""
        groups = set()
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                groups.add(os.getpgid(pid))
        for group in groups:
            attempt.started(group, None)
            attempt.end(_POOL_GONE, interrupted=True)
            await self._end_group(attempt, 0)
            attempt.stop_timers()

    async def conclude(self, attempt: RunningAttempt) -> Outcome:
        """The outcome of an earlier pool's attempt whose outer shell has ended."""
        report, written_at = self.files.find_status(attempt.token)
        self._note_interruption(attempt, report)
        if report.status is None:
            await self._end_group(attempt, -KILL)
            if attempt.end_reason is None:
                attempt.end(_LOST, interrupted=True)
            return self._outcome(attempt, ShellExit())
        if attempt.end_reason is not None:
            await self._end_group(attempt, report.status)
        return replace(self._outcome(attempt, shell.interpret(report)), finished_at=written_at)

    def close(self) -> None:
        """Close the status files. They stay until all that they say is stored."""
        for file in self._status_files.values():
            file.close()
        self._status_files.clear()

    async def _start(self, job: Job) -> asyncio.subprocess.Process:
        latest = job.history[-1]
        out = self.files.create_output(job, "out")
        try:
            err = self.files.create_output(job, "err")
            try:
                return await asyncio.create_subprocess_shell(
                    shell.shell_line(job.command, latest.token),
                    executable=shell.SHELL,
                    stdin=self._status_file(latest.worker).for_next_attempt(),
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

    def _status_file(self, slot: int) -> StatusFile:
        file = self._status_files.get(slot)
        if file is None:
            file = self._status_files[slot] = self.files.open_status(self._run_id, slot)
        return file

    async def _end_group(self, attempt: RunningAttempt, returncode: int) -> None:
        """End what is left of the group of a command that was ended, or whose shell was killed."""
        if attempt.group is None or (attempt.end_reason is None and returncode >= 0):
            return
        while members := group_members(attempt.group):
            if returncode < 0 and attempt.end_reason is None:
                attempt.kill()
            for member in members:
                await wait_for_exit(member)

    def _interpret(self, attempt: RunningAttempt, returncode: int) -> ShellExit:
        """How a command ended whose outer shell was our child and ended with `returncode`."""
        if returncode == 0:
            return ShellExit(0)
        text = self._status_files[attempt.job.history[-1].worker].latest()
        report = shell.parse_status(text, attempt.token)
        self._note_interruption(attempt, report)  # the watchdog may have ended it in the last moment
        return shell.interpret_child(returncode, report)

    def _note_interruption(self, attempt: RunningAttempt, report: StatusReport) -> None:
        if report.interrupted and attempt.end_reason is None:
            attempt.end(_MARKED, interrupted=True)

    def _outcome(self, attempt: RunningAttempt, ended: ShellExit) -> Outcome:
        return Outcome(
            exit_code=ended.exit_code,
            signal=ended.signal,
            error=attempt.end_reason or ended.error,
            interrupted=attempt.interrupted,
            cancelled=attempt.cancelled,
            pid=attempt.group,
            stdout=self.files.tail(attempt.job, "out"),
            stderr=self.files.tail(attempt.job, "err"),
        )


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError) and error.filename:
        return f"{error.strerror}: {os.fsdecode(error.filename)}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def environment(job: Job, inherited: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The environment of `job`'s latest attempt."""
    own = {**(job.env or {}), **attempt_variables(job)}
    return {**inherited, **{os.fsencode(name): os.fsencode(value) for name, value in own.items()}}
