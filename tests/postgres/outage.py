"""Takes the tests' own PostgreSQL server away, and brings it back."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from tests import databases
from tests.postgres.hosts import eventually


class Outage:
    """The end and the restart of the server at `url`, which runs on this machine."""

    def __init__(self, url: str) -> None:
        if databases.GIVEN in os.environ:
            pytest.skip("a server that somebody else runs is not restarted")
        self._url = url
        with psycopg.connect(url) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        assert row is not None
        self._data = Path(row[0])
        self._programs = Path(os.readlink(f"/proc/{self._pid()}/exe")).parent

    def stop(self, number: int = signal.SIGQUIT) -> None:
        """End the server at once, as a crash does; with SIGINT politely. Whoever is connected is cut off."""
        pid = self._pid()
        os.kill(pid, number)
        eventually(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid), "the end of the server")
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def start(self) -> None:
        """Start it again, if it does not run, and return when it answers."""
        if not (self._data / "postmaster.pid").exists():
            options = f"-h '' -k {self._data}"
            log = str(self._data / "restart.log")
            command = [str(self._programs / "pg_ctl"), "-w", "-D", str(self._data), "-o", options, "-l", log, "start"]
            subprocess.run(command, user=self._data.stat().st_uid, check=True, stdout=subprocess.DEVNULL)
        eventually(self._answers, "the server")

    def restart(self, seconds: float = 0.0) -> None:
        """Stop the server, and start it again after so many seconds."""
        self.stop()
        time.sleep(seconds)
        self.start()

    def _pid(self) -> int:
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._url).close()
        except psycopg.OperationalError:
            return False
        return True


def _is_zombie(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()
