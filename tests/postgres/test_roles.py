"""Who may use the queue: a role with a password, and one that may not make tables."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests import databases
from tests.postgres.hosts import Hosts, eventually

PASSWORD = "s3same"
Url = Callable[[str], str]


@pytest.fixture
def role(hosts: Hosts) -> Iterator[str]:
    """A role that must say its password."""
    if databases.GIVEN in os.environ:
        pytest.skip("who may connect to a server that somebody else runs is not changed")
    name = f"aqueue_role_{os.getpid()}"
    hosts.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    rules = Path(hosts.sql("SHOW hba_file")[0][0])
    before = rules.read_text()
    rules.write_text(f"local all {name} scram-sha-256\nhost all {name} all scram-sha-256\n{before}")
    hosts.sql("SELECT pg_reload_conf()")
    eventually(lambda: not _let_in(hosts, name), "the new rule")
    yield name
    rules.write_text(before)
    hosts.sql("SELECT pg_reload_conf()")
    for end in ("REASSIGN OWNED BY {} TO CURRENT_USER", "DROP OWNED BY {} CASCADE", "DROP ROLE {}"):
        hosts.sql(end.format(name))


@pytest.fixture
def url(role: str, hosts: Hosts) -> Url:
    """The database for that role, which says this password, or none."""

    def make(password: str) -> str:
        parts = urlsplit(hosts.url)
        return f"postgresql://{role}{password and ':'}{password}@{parts.path}?{parts.query}"

    return make


def _let_in(hosts: Hosts, role: str) -> bool:
    """Whether the role needs no password."""
    try:
        psycopg.connect(hosts.url, user=role, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def own(hosts: Hosts, role: str) -> None:
    """Let the database belong to the role, so that it may make the tables."""
    hosts.sql(f"ALTER DATABASE {hosts.sql('SELECT current_database()')[0][0]} OWNER TO {role}")


def test_a_role_with_a_password_runs_a_pool(hosts: Hosts, role: str, url: Url) -> None:
    own(hosts, role)
    host = hosts.add(url(PASSWORD))
    host.start()
    assert host.run("enqueue", "--wait", "echo hello")[0] == 0
    assert PASSWORD not in host.log()
    assert host.run("worker", "stop")[0] == 0


def test_the_password_may_be_in_a_file(hosts: Hosts, role: str, url: Url) -> None:
    own(hosts, role)
    host = hosts.add(url(""))
    file = host.folder / ".pgpass"
    file.write_text(f"*:*:*:{role}:{PASSWORD}\n")
    file.chmod(0o600)
    assert host.run("store", "init")[0] == 0
    assert host.run("list")[0] == 0


@pytest.mark.parametrize("command", [("list",), ("enqueue", "true"), ("worker", "start"), ("store", "init")])
@pytest.mark.parametrize("password", ["", "wr0ng"], ids=["none", "wrong"])
def test_a_password_that_is_wrong_or_missing_is_said_in_one_line(
    hosts: Hosts, url: Url, password: str, command: tuple[str, ...]
) -> None:
    status, printed = hosts.add(url(password)).run(*command)
    assert (status, printed.count("\n")) == (5, 1), printed
    assert ("password authentication failed" if password else "no password supplied") in printed
    assert "wr0ng" not in printed


def test_a_role_that_may_not_make_tables_is_told_so(hosts: Hosts, url: Url) -> None:
    host = hosts.add(url(PASSWORD))
    for command in (("store", "init"), ("worker", "start")):
        status, printed = host.run(*command)
        assert (status, printed.count("\n")) == (5, 1), printed
        assert "permission denied for database" in printed


def test_a_role_may_use_tables_that_another_has_made(hosts: Hosts, role: str, url: Url) -> None:
    assert hosts.add().run("store", "init")[0] == 0
    host = hosts.add(url(PASSWORD))
    status, printed = host.run("list")
    assert (status, printed.count("\n")) == (5, 1), printed
    assert "permission denied for schema aqueue" in printed
    hosts.sql(f"GRANT USAGE ON SCHEMA aqueue TO {role}")
    hosts.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA aqueue TO {role}")
    hosts.sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA aqueue TO {role}")
    host.start()
    assert host.run("enqueue", "--wait", "echo hello")[0] == 0
    assert host.run("doctor")[0] == 0
