"""What every connection to the database is like, whatever its URL says and whoever vanishes."""

import asyncio
import time
from datetime import UTC, datetime

import psycopg
import pytest

from aqueue.errors import StoreError
from aqueue.jobs.job import State
from aqueue.store.postgres.connection import _DEFAULT_OPTIONS, LOCK_TIMEOUT, close_now, connect
from aqueue.store.postgres.connection_pool import ConnectionPool
from tests import databases
from tests.postgres.hosts import Hosts, eventually
from tests.postgres.proxy import Proxy

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'aqueue' AND wait_event_type = 'Lock'"""


async def fetch(url: str, query: str) -> str:
    """The one value that the query returns over a connection to that URL."""
    connection = await connect(url)
    try:
        (value,) = await (await connection.execute(query)).fetchone()  # type: ignore[misc]
        return str(value)
    finally:
        await close_now(connection)


async def test_what_the_url_names_wins(database: str) -> None:
    assert await fetch(database, "SHOW application_name") == "aqueue"
    assert await fetch(f"{database}&application_name=mine", "SHOW application_name") == "mine"
    connection = await connect(f"{database}&connect_timeout=17&keepalives_idle=99")
    given = connection.info.get_parameters()
    await close_now(connection)
    assert (given["connect_timeout"], given["keepalives_idle"], given["keepalives_count"]) == ("17", "99", "3")


async def test_a_url_that_cannot_be_understood_is_said_in_one_line() -> None:
    with pytest.raises(StoreError, match="database postgresql://x/y") as caught:
        await connect("postgresql://x/y?nonsense=1")
    assert "\n" not in str(caught.value)


async def test_text_is_utf_8_whatever_url_and_database_say(postgres: databases.Server) -> None:
    url = postgres.database()
    postgres.drop(url)
    name = url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
    try:
        for address in (url, f"{url}&client_encoding=LATIN1"):
            assert await fetch(address, "SELECT 'ä€😀'::text") == "ä€😀"
            assert await fetch(address, "SHOW client_encoding") == "UTF8"
    finally:
        postgres.drop(url)


async def test_the_server_does_not_keep_locks_of_a_client_that_has_vanished(database: str, proxy: Proxy) -> None:
    for url in (database, proxy.url):
        assert await fetch(url, "SHOW idle_in_transaction_session_timeout") == "1min"
        assert await fetch(url, "SHOW lock_timeout") == "4s"
    shown = [await fetch(database, f"SHOW tcp_keepalives_{what}") for what in ("idle", "interval", "count")]
    over_tcp = await fetch(database, "SELECT inet_server_addr() IS NOT NULL") == "True"
    assert shown == (["10", "5", "3"] if over_tcp else ["0", "0", "0"])


async def test_a_connection_that_falls_silent_as_soon_as_it_is_open_is_closed(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqueue.store.postgres.connection._SESSION_TIME_LIMIT", 0.3)
    monkeypatch.setattr("aqueue.store.postgres.connection._SET_SESSION", "SELECT pg_sleep(60), %s::text[], %s::text[]")
    with pytest.raises(StoreError, match="it does not answer"):
        await connect(proxy.url)


@pytest.mark.slow
def test_a_command_that_waits_for_a_locked_job_says_so_and_no_backend_goes_on_waiting(hosts: Hosts) -> None:
    host = hosts.add()
    host.start()
    hosts.enqueue("until [ -e go ]; do sleep 0.02; done", id="j")
    eventually(lambda: hosts.job("j").state is State.PROCESSING, "the start")
    with psycopg.connect(hosts.url) as foreign:
        foreign.execute("SELECT FROM aqueue.job WHERE id = 'j' FOR UPDATE")
        began = time.monotonic()
        commands = [each.popen("cancel", "j") for each in (host, hosts.add())]
        (hosts.folder / "go").touch()  # its result waits for the lock, too
        for process in commands:
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


@pytest.mark.slow
async def test_a_wait_for_a_lock_ends_before_any_time_limit(database: str) -> None:
    connection = await connect(database)
    with psycopg.connect(database) as foreign:
        foreign.execute("CREATE TABLE busy ()")
        foreign.commit()
        foreign.execute("LOCK TABLE busy")
        began = time.monotonic()
        with pytest.raises(LOCK_TIMEOUT):
            await connection.execute("SELECT FROM busy")
        assert time.monotonic() - began < 5
    await close_now(connection)


@pytest.mark.slow
async def test_a_server_that_hangs_ends_a_query_and_one_that_only_takes_long_does_not(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqueue.store.postgres.connection._PROBE_INTERVAL", 0.2)
    monkeypatch.setitem(_DEFAULT_OPTIONS, "connect_timeout", 2)
    pool = ConnectionPool(proxy.url, max_idle=4)
    async with pool.acquire() as connection:
        assert await (await connection.execute("SELECT pg_sleep(1), 1")).fetchone() == ("", 1)

    async def query_in_vain() -> None:
        async with pool.acquire() as connection:
            proxy.swallow()
            await connection.execute("SELECT 1")

    with pytest.raises(StoreError, match="it does not answer"):
        await asyncio.wait_for(query_in_vain(), 20)
    proxy.mend()
    async with pool.acquire() as connection:
        await connection.execute("SELECT 1")
    await pool.close()


@pytest.mark.slow
async def test_a_connection_is_waited_for_as_long_as_others_get_responses(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqueue.store.postgres.connection_pool._ACQUIRE_TIMEOUT", 0.3)
    pool = ConnectionPool(database, max_idle=4)

    async def ask(seconds: float) -> None:
        async with pool.acquire() as connection:
            await connection.execute("SELECT pg_sleep(%s)", (seconds,))

    await asyncio.gather(*(ask(0.2) for _ in range(20)))
    with pytest.raises(StoreError, match="it does not answer"):
        await asyncio.gather(*(ask(2) for _ in range(5)))
    await asyncio.sleep(2)
    await pool.close()


async def test_a_connection_to_a_server_that_has_become_a_standby_is_not_kept(database: str) -> None:
    pool = ConnectionPool(database, max_idle=4)
    async with pool.acquire() as connection:
        await connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(StoreError, match="read-only"):
        async with pool.acquire() as connection:
            await connection.execute("CREATE TABLE t ()")
    async with pool.acquire() as connection:
        await connection.execute("CREATE TABLE t ()")
    await pool.close()


async def test_dates_are_read_whatever_the_database_is_set_to(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as other:
        row = await (await other.execute("SELECT current_database()")).fetchone()
        assert row is not None
        await other.execute(f"ALTER DATABASE {row[0]} SET datestyle = 'German'")
    pool = ConnectionPool(database)
    async with pool.acquire() as connection:
        row = await (await connection.execute("SELECT '2026-01-02 03:04:05+00'::timestamptz")).fetchone()
        assert row == (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),)
    await pool.close()
