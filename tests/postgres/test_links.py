"""What every connection to the database is like, whatever its URL says and whoever vanishes."""

import time

import psycopg
import pytest

from aqueue.errors import StoreError
from aqueue.job import State
from aqueue.store.postgres.links import LOCKED, Links, give_up
from tests import databases
from tests.postgres.hosts import Hosts, eventually
from tests.postgres.proxy import Proxy

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'aqueue' AND wait_event_type = 'Lock'"""


async def said(url: str, question: str) -> str:
    """The server's answer over a connection to that URL."""
    connection = await Links(url, many=False).connect()
    try:
        (answer,) = await (await connection.execute(question)).fetchone()  # type: ignore[misc]
        return str(answer)
    finally:
        await give_up(connection)


async def test_what_the_url_names_wins(database: str) -> None:
    assert await said(database, "SHOW application_name") == "aqueue"
    assert await said(f"{database}&application_name=mine", "SHOW application_name") == "mine"
    connection = await Links(f"{database}&connect_timeout=17&keepalives_idle=99", many=False).connect()
    given = connection.info.get_parameters()
    await give_up(connection)
    assert (given["connect_timeout"], given["keepalives_idle"], given["keepalives_count"]) == ("17", "99", "3")


async def test_a_url_that_cannot_be_understood_is_said_in_one_line() -> None:
    with pytest.raises(StoreError, match="database postgresql://x/y") as caught:
        await Links("postgresql://x/y?nonsense=1", many=False).connect()
    assert "\n" not in str(caught.value)


async def test_text_is_utf_8_whatever_url_and_database_say(postgres: databases.Server) -> None:
    url = postgres.database()
    postgres.drop(url)
    name = url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
    try:
        for address in (url, f"{url}&client_encoding=LATIN1"):
            assert await said(address, "SELECT 'ä€😀'::text") == "ä€😀"
            assert await said(address, "SHOW client_encoding") == "UTF8"
    finally:
        postgres.drop(url)


async def test_the_server_does_not_keep_locks_of_who_has_vanished(database: str, proxy: Proxy) -> None:
    for url in (database, proxy.url):
        assert await said(url, "SHOW idle_in_transaction_session_timeout") == "1min"
        assert await said(url, "SHOW lock_timeout") == "4s"
    shown = [await said(database, f"SHOW tcp_keepalives_{what}") for what in ("idle", "interval", "count")]
    over_tcp = await said(database, "SELECT inet_server_addr() IS NOT NULL") == "True"
    assert shown == (["10", "5", "3"] if over_tcp else ["0", "0", "0"])


async def test_a_connection_that_is_swallowed_as_soon_as_it_is_there_is_given_up(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqueue.store.postgres.links._TO_SET", 0.3)
    monkeypatch.setattr("aqueue.store.postgres.links._SET", "SELECT pg_sleep(60), %s::text[], %s::text[]")
    with pytest.raises(StoreError, match="it does not answer"):
        await Links(proxy.url, many=False).connect()


def test_who_waits_for_a_locked_job_is_told_so_and_no_backend_goes_on_waiting(hosts: Hosts) -> None:
    host = hosts.add()
    host.start()
    hosts.enqueue("until [ -e go ]; do sleep 0.02; done", id="j")
    eventually(lambda: hosts.job("j").state is State.PROCESSING, "the start")
    with psycopg.connect(hosts.url) as foreign:
        foreign.execute("SELECT FROM aqueue.job WHERE id = 'j' FOR UPDATE")
        began = time.monotonic()
        asking = [asker.popen("cancel", "j") for asker in (host, hosts.add())]
        (hosts.folder / "go").touch()  # its result waits for the lock, too
        for process in asking:
            printed = process.communicate(timeout=20)[0]
            assert (process.returncode, printed.count("\n")) == (5, 1), printed
            assert "another transaction has kept a lock" in printed
        assert time.monotonic() - began < 20  # each waits for those before it, and then for the lock
        most, began = 0, time.monotonic()
        while time.monotonic() < began + 8:
            most = max(most, hosts.sql(WAITING)[0][0])
            time.sleep(0.1)
        assert most <= 2, "the pool's result, and the one before it at the most"
    assert hosts.ended("j").state is State.COMPLETED
    eventually(lambda: hosts.sql(WAITING)[0][0] == 0, "the end of all waiting")


async def test_a_wait_for_a_lock_ends_before_anybody_loses_patience(database: str) -> None:
    connection = await Links(database, many=False).connect()
    with psycopg.connect(database) as foreign:
        foreign.execute("CREATE TABLE busy ()")
        foreign.commit()
        foreign.execute("LOCK TABLE busy")
        began = time.monotonic()
        with pytest.raises(LOCKED):
            await connection.execute("SELECT FROM busy")
        assert time.monotonic() - began < 5
    await give_up(connection)
