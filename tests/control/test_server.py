"""The pool's server: every client is served, and none can disturb another."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from aqueue import Pool, State
from aqueue.control import framing, requests
from aqueue.jobs.job import Job, utc_now
from aqueue.jobs.spec import JobSpec, NewJob
from aqueue.settings.config import Config
from aqueue.system import control_socket_path
from tests.conftest import PATIENCE

LENGTH = struct.Struct(">I")


class RawClient:
    """A client that speaks the protocol by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, message: Any) -> None:
        """Send a message of ours, JSON that is none, or bare bytes."""
        data = message if isinstance(message, bytes) else None
        if isinstance(message, dict | list | str):
            body = json.dumps(message).encode()
            data = LENGTH.pack(len(body)) + body
        self.writer.write(framing.encode(message) if data is None else data)
        await self.writer.drain()

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            (length,) = LENGTH.unpack(await self.reader.readexactly(4))
            message: dict[str, Any] = json.loads(await self.reader.readexactly(length))
        return message

    async def was_closed(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


@pytest.fixture
async def pool(config: Config) -> AsyncIterator[Pool]:
    async with Pool(config=config, queues=["none"]) as pool:
        yield pool


@pytest.fixture
async def clients(pool: Pool, store: Path) -> AsyncIterator[Any]:
    known: list[RawClient] = []

    async def connect(*, greet: bool = True) -> RawClient:
        client = RawClient(*await asyncio.open_unix_connection(str(control_socket_path(store))))
        known.append(client)
        if greet:
            await client.send(requests.Hello())
            assert await client.receive() == {"type": "Hello", "protocol": requests.PROTOCOL}
        return client

    yield connect
    for client in known:
        client.writer.close()


async def is_served(client: RawClient) -> bool:
    await client.send(requests.Status())
    return [(await client.receive())["type"], (await client.receive())["type"]] == ["Overview", "Done"]


async def test_a_request_is_answered_in_parts_and_then_done(clients: Any) -> None:
    client = await clients()
    await client.send(requests.Enqueue([NewJob(command="true", id="a")]))
    answer = await client.receive()
    assert (answer["type"], [job["id"] for job in answer["jobs"]]) == ("Jobs", ["a"])
    assert await client.receive() == {"type": "Done"}


async def test_requests_of_one_client_are_answered_in_order(clients: Any) -> None:
    client = await clients()
    for number in range(50):
        await client.send(requests.Enqueue([NewJob(command="true", id=f"j{number}")]))
    for number in range(50):
        assert (await client.receive())["jobs"][0]["id"] == f"j{number}"
        assert (await client.receive())["type"] == "Done"


async def test_a_batch_in_parts_is_stored_with_its_last_part_or_not_at_all(clients: Any, pool: Pool) -> None:
    client = await clients()
    await client.send(requests.Enqueue([NewJob(command="true", id="a")], more=True))
    assert [job.id async for job in pool.jobs()] == []
    await client.send(requests.Enqueue([NewJob(command="true", id="b")]))
    assert [job["id"] for job in (await client.receive())["jobs"]] == ["a", "b"]
    gone = await clients()
    await gone.send(requests.Enqueue([NewJob(command="true", id="c")], more=True))
    gone.writer.close()
    await gone.writer.wait_closed()
    assert await is_served(await clients())
    assert [job.id async for job in pool.jobs()] == ["a", "b"]


async def test_an_error_is_an_answer_and_the_connection_stays(clients: Any) -> None:
    client = await clients()
    await client.send(requests.Get(["nobody"]))
    assert (await client.receive())["kind"] == "UnknownJob"
    await client.send(requests.Enqueue([NewJob(command=" ")]))
    assert (await client.receive())["kind"] == "InvalidJob"
    assert await is_served(client)


def waiting(name: str, **fields: Any) -> Job:
    """A record to import."""
    return Job(id=name, seq=0, command="true", created_at=utc_now(), **fields)


GOOD = {"specs": [NewJob(command="true", id="good")], "jobs": [waiting("good")]}
REFUSED: list[Any] = [
    requests.Enqueue([NewJob(command="true", id="a"), NewJob(command="true", id="../b")], more=True),
    requests.Enqueue([NewJob(command=" ")], more=True),
    requests.Import([waiting("../b")], more=True),
    requests.Import([waiting("a", queue="b c")], more=True),
    requests.Import([waiting("a", state=State.PROCESSING)], more=True),
]


@pytest.mark.parametrize("bad", REFUSED, ids=range(len(REFUSED)))
async def test_a_bad_part_refuses_its_whole_batch_once_and_the_next_batch_is_a_new_one(
    clients: Any, pool: Pool, bad: Any
) -> None:
    client = await clients()
    field = "specs" if isinstance(bad, requests.Enqueue) else "jobs"
    good = replace(bad, **{field: GOOD[field]})
    for part in (good, bad, good, replace(good, more=False)):
        await client.send(part)
    assert (await client.receive())["kind"] == "InvalidJob"
    assert await is_served(client)
    assert [job.id async for job in pool.jobs()] == []
    await client.send(replace(good, more=False))
    assert [job["id"] for job in (await client.receive())["jobs"]] == ["good"]


BAD = [
    b"\0\0\0\5hello",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"GET / HTTP/1.1\r\n\r\n",
    {"type": "Nothing"},
    {"type": "Enqueue", "specs": [{"command": 1}]},
    {"type": "Enqueue", "specs": [{"command": "x", "unknown": 1}]},
    {"type": "Hello", "protocol": "x"},
    {"type": "Hello", "protocol": requests.PROTOCOL},
    [],
    "text",
    {},
]


@pytest.mark.parametrize("greet", [True, False])
@pytest.mark.parametrize("message", BAD, ids=range(len(BAD)))
async def test_nonsense_is_answered_by_an_error_and_a_closed_connection_and_disturbs_nobody(
    clients: Any, message: Any, greet: bool
) -> None:
    good = await clients()
    bad = await clients(greet=greet)
    if not greet and message == {"type": "Hello", "protocol": requests.PROTOCOL}:
        pytest.skip("a greeting is no nonsense here")
    await bad.send(message)
    assert (await bad.receive())["kind"] == "InvalidRequest"
    assert await bad.was_closed()
    assert await is_served(good)


async def test_a_client_of_another_version_gets_an_error_that_names_both(clients: Any) -> None:
    client = await clients(greet=False)
    await client.send(requests.Hello(protocol=99))
    assert (await client.receive())["message"] == (
        f"the client speaks version 99 of the protocol and the pool version {requests.PROTOCOL}:"
        " use the same version of aqueue for both"
    )
    assert await client.was_closed()


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\x10", b"\0\0\1\0{"])
async def test_a_client_that_leaves_in_the_middle_or_stalls_disturbs_nobody(clients: Any, data: bytes) -> None:
    leaves, stalls = await clients(greet=False), await clients()
    await leaves.send(data)
    await stalls.send(data)
    leaves.writer.transport.abort()
    assert await is_served(await clients())


async def test_many_clients_are_served_at_the_same_time(clients: Any) -> None:
    crowd = await asyncio.gather(*(clients() for _ in range(100)))
    assert all(await asyncio.gather(*map(is_served, crowd)))


async def test_a_client_that_waits_for_a_job_holds_up_nobody(clients: Any, pool: Pool) -> None:
    await pool.enqueue("true", id="a")
    waits, other = await clients(), await clients()
    await waits.send(requests.Wait(["a"]))
    assert await is_served(other)
    await pool.cancel("a")
    assert (await waits.receive())["jobs"][0]["state"] == State.CANCELLED
    assert (await waits.receive())["type"] == "Done"


async def test_a_stop_is_answered_and_then_every_connection_is_closed(clients: Any, pool: Pool, store: Path) -> None:
    await pool.enqueue("true", id="a")
    stops, waits, idles = await clients(), await clients(), await clients(greet=False)
    await waits.send(requests.Wait(["a"]))
    await stops.send(requests.Stop())
    assert await stops.receive() == {"type": "Done"}
    assert all(await asyncio.gather(stops.was_closed(), waits.was_closed(), idles.was_closed()))
    await asyncio.wait_for(pool.stopped(), PATIENCE)
    assert not (store / "socket").exists()


@pytest.mark.slow
async def test_a_client_that_does_not_read_disturbs_nobody_and_holds_up_no_stop(clients: Any, pool: Pool) -> None:
    await pool.enqueue_many([JobSpec(command="true", env={"X": "x" * 1000})] * 3000)
    stalls = await clients()
    for _ in range(5):
        await stalls.send(requests.Find())
    assert await is_served(await clients())
    await asyncio.wait_for(pool.stop(), PATIENCE)


async def test_the_socket_is_private(pool: Pool, store: Path) -> None:
    assert (store / "socket").stat().st_mode & 0o777 == 0o600
    assert (store / "pool.json").stat().st_mode & 0o777 == 0o600


async def test_a_socket_that_a_killed_pool_left_is_replaced(config: Config, store: Path) -> None:
    store.mkdir(mode=0o700)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(store / "socket"))
    stale.close()
    async with Pool(config=config):
        reader, writer = await asyncio.open_unix_connection(str(store / "socket"))
        assert await greets_and_is_served(RawClient(reader, writer))
        writer.close()


async def greets_and_is_served(client: RawClient) -> bool:
    await client.send(requests.Hello())
    await client.receive()
    return await is_served(client)
