"""Hosts that share a database, the network between them, and a server that can be taken away."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import databases
from tests.postgres.hosts import Hosts
from tests.postgres.outage import Outage
from tests.postgres.proxy import Proxy


@pytest.fixture
def hosts(tmp_path: Path, database: str) -> Iterator[Hosts]:
    """Hosts on an empty database. Their processes are gone after the test."""
    hosts = Hosts(tmp_path, database)
    yield hosts
    hosts.clean_up()


@pytest.fixture
def make_proxy(database: str) -> Iterator[Callable[[], Proxy]]:
    """Makes one more proxy for the database."""
    proxies: list[Proxy] = []

    def make() -> Proxy:
        proxies.append(Proxy(database))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def proxy(make_proxy: Callable[[], Proxy]) -> Proxy:
    return make_proxy()


@pytest.fixture
def outage(postgres: databases.Server) -> Iterator[Outage]:
    """Stops and starts the server."""
    outage = Outage(postgres.url)
    yield outage
    outage.start()
