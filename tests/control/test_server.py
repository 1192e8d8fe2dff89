"""The pool's door: every asker is served, and none can disturb another."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from aqueue import Pool, State
from aqueue.control import requests, wire
from aqueue.jobs.job import Job, utc_now
from aqueue.jobs.spec import JobSpec
from aqueue.settings.config import Config
from aqueue.system import platform

from ..conftest import PATIENCE


class Asker:
    """Somebody at the door who speaks the protocol by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, message: Any) -> None:
        """A message of ours, JSON that is none, or bare bytes."""
        data = message if isinstance(message, bytes) else None
        if isinstance(message, dict | list | str):
            body = json.dumps(message).encode()
            data = wire.LENGTH.pack(len(body)) + body
        self.writer.write(wire.pack(message) if data is None else data)
        await self.writer.drain()

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            (length,) = wire.LENGTH.unpack(await self.reader.readexactly(4))
            heard: dict[str, Any] = json.loads(await self.reader.readexactly(length))
        return heard

    async def hung_up(self) -> bool:
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
async def askers(pool: Pool, store: Path) -> AsyncIterator[Any]:
    known: list[Asker] = []

    async def come(*, greet: bool = True) -> Asker:
        asker = Asker(*await asyncio.open_unix_connection(str(platform.socket_path(store))))
        known.append(asker)
        if greet:
            await asker.say(requests.Hello())
            assert await asker.hear() == {"type": "Hello", "protocol": requests.PROTOCOL}
        return asker

    yield come
    for asker in known:
        asker.writer.close()


async def works(asker: Asker) -> bool:
    await asker.say(requests.Status())
    return [(await asker.hear())["type"], (await asker.hear())["type"]] == ["Overview", "Done"]


async def test_a_request_is_answered_in_parts_and_then_done(askers: Any) -> None:
    asker = await askers()
    await asker.say(requests.Enqueue([JobSpec(command="true", id="a")]))
    answer = await asker.hear()
    assert (answer["type"], [job["id"] for job in answer["jobs"]]) == ("Jobs", ["a"])
    assert await asker.hear() == {"type": "Done"}


async def test_requests_of_one_asker_are_answered_in_order(askers: Any) -> None:
    asker = await askers()
    for number in range(50):
        await asker.say(requests.Enqueue([JobSpec(command="true", id=f"j{number}")]))
    for number in range(50):
        assert (await asker.hear())["jobs"][0]["id"] == f"j{number}"
        assert (await asker.hear())["type"] == "Done"


async def test_a_batch_in_parts_is_stored_with_its_last_part_or_not_at_all(askers: Any, pool: Pool) -> None:
    asker = await askers()
    await asker.say(requests.Enqueue([JobSpec(command="true", id="a")], more=True))
    assert [job.id async for job in pool.jobs()] == []
    await asker.say(requests.Enqueue([JobSpec(command="true", id="b")]))
    assert [job["id"] for job in (await asker.hear())["jobs"]] == ["a", "b"]
    gone = await askers()
    await gone.say(requests.Enqueue([JobSpec(command="true", id="c")], more=True))
    gone.writer.close()
    await gone.writer.wait_closed()
    assert await works(await askers())
    assert [job.id async for job in pool.jobs()] == ["a", "b"]


async def test_an_error_is_an_answer_and_the_connection_stays(askers: Any) -> None:
    asker = await askers()
    await asker.say(requests.Get(["nobody"]))
    assert (await asker.hear())["kind"] == "UnknownJob"
    await asker.say(requests.Enqueue([JobSpec(command=" ")]))
    assert (await asker.hear())["kind"] == "InvalidJob"
    assert await works(asker)


def waiting(name: str, **fields: Any) -> Job:
    """A record to import."""
    return Job(id=name, seq=0, command="true", created_at=utc_now(), **fields)


GOOD = {"specs": [JobSpec(command="true", id="good")], "jobs": [waiting("good")]}
REFUSED: list[Any] = [
    requests.Enqueue([JobSpec(command="true", id="a"), JobSpec(command="true", id="../b")], more=True),
    requests.Enqueue([JobSpec(command=" ")], more=True),
    requests.Import([waiting("../b")], more=True),
    requests.Import([waiting("a", queue="b c")], more=True),
    requests.Import([waiting("a", state=State.PROCESSING)], more=True),
]


@pytest.mark.parametrize("bad", REFUSED, ids=range(len(REFUSED)))
async def test_a_bad_part_refuses_its_whole_batch_once_and_the_next_batch_is_a_new_one(
    askers: Any, pool: Pool, bad: Any
) -> None:
    asker = await askers()
    field = "specs" if isinstance(bad, requests.Enqueue) else "jobs"
    good = replace(bad, **{field: GOOD[field]})
    for part in (good, bad, good, replace(good, more=False)):
        await asker.say(part)
    assert (await asker.hear())["kind"] == "InvalidJob"
    assert await works(asker)
    assert [job.id async for job in pool.jobs()] == []
    await asker.say(replace(good, more=False))
    assert [job["id"] for job in (await asker.hear())["jobs"]] == ["good"]


BAD = [
    b"\0\0\0\5hello",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"GET / HTTP/1.1\r\n\r\n",
    {"type": "Nothing"},
    {"type": "Enqueue", "specs": [{"command": 1}]},
    {"type": "Enqueue", "specs": [{"command": "x", "unknown": 1}]},
    {"type": "Hello", "protocol": "x"},
    {"type": "Hello", "protocol": 1},
    [],
    "text",
    {},
]


@pytest.mark.parametrize("greet", [True, False])
@pytest.mark.parametrize("message", BAD, ids=range(len(BAD)))
async def test_nonsense_is_answered_by_an_error_and_a_hang_up_and_disturbs_nobody(
    askers: Any, message: Any, greet: bool
) -> None:
    good = await askers()
    bad = await askers(greet=greet)
    if not greet and message == {"type": "Hello", "protocol": 1}:
        pytest.skip("a greeting is no nonsense here")
    await bad.say(message)
    assert (await bad.hear())["kind"] == "InvalidRequest"
    assert await bad.hung_up()
    assert await works(good)


async def test_another_version_is_told_so(askers: Any) -> None:
    asker = await askers(greet=False)
    await asker.say(requests.Hello(protocol=99))
    assert "speaks version 99" in (await asker.hear())["message"]
    assert await asker.hung_up()


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\x10", b"\0\0\1\0{"])
async def test_one_who_leaves_in_the_middle_or_stalls_disturbs_nobody(askers: Any, data: bytes) -> None:
    leaves, stalls = await askers(greet=False), await askers()
    await leaves.say(data)
    await stalls.say(data)
    leaves.writer.transport.abort()
    assert await works(await askers())


async def test_many_can_ask_at_the_same_time(askers: Any) -> None:
    crowd = await asyncio.gather(*(askers() for _ in range(100)))
    assert all(await asyncio.gather(*map(works, crowd)))


async def test_one_who_waits_is_told_of_the_end_and_others_are_not_held_up(askers: Any, pool: Pool) -> None:
    await pool.enqueue("true", id="a")
    waits, other = await askers(), await askers()
    await waits.say(requests.Wait(["a"]))
    assert await works(other)
    await pool.cancel("a")
    assert (await waits.hear())["jobs"][0]["state"] == State.CANCELLED
    assert (await waits.hear())["type"] == "Done"


async def test_a_stop_is_answered_and_then_everybody_is_let_go(askers: Any, pool: Pool, store: Path) -> None:
    await pool.enqueue("true", id="a")
    stops, waits, idles = await askers(), await askers(), await askers(greet=False)
    await waits.say(requests.Wait(["a"]))
    await stops.say(requests.Stop())
    assert await stops.hear() == {"type": "Done"}
    assert all(await asyncio.gather(stops.hung_up(), waits.hung_up(), idles.hung_up()))
    await asyncio.wait_for(pool.stopped(), PATIENCE)
    assert not (store / "socket").exists()


async def test_one_who_does_not_read_disturbs_nobody_and_does_not_hold_a_stop(askers: Any, pool: Pool) -> None:
    await pool.enqueue_many([JobSpec(command="true", env={"X": "x" * 1000})] * 3000)
    unsubscribe = await askers()
    for _ in range(5):
        await unsubscribe.say(requests.Find())
    assert await works(await askers())
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
        assert await works_from_scratch(Asker(reader, writer))
        writer.close()


async def works_from_scratch(asker: Asker) -> bool:
    await asker.say(requests.Hello())
    await asker.hear()
    return await works(asker)
