"""Hostile or broken input at the pool's socket: everybody else is served meanwhile, and the pool stops when asked."""

import contextlib
import os
import random
import signal
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from aqueue.control import framing
from aqueue.control.requests import Find, Get, Hello, Status, Watch
from aqueue.system import control_socket_path

LENGTH = struct.Struct(">I")
HELLO = framing.encode(Hello())
MEGABYTE = 1 << 20


@pytest.fixture
def connect(broken: Any) -> Iterator[Callable[..., socket.socket]]:
    """Connects to a running pool and sends bytes, without waiting for an answer."""
    broken.pool("--count", "2")
    opened: list[socket.socket] = []

    def connect_and_send(*data: bytes, path: str | None = None) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        opened.append(client)
        client.connect(path or str(control_socket_path(broken.store)))
        client.settimeout(30)
        for part in data:
            client.sendall(part)
        return client

    yield connect_and_send
    for client in opened:
        client.close()


def answers(client: socket.socket) -> list[dict[str, Any]]:
    """All that the pool sends until it closes the connection."""
    data = b""
    try:
        while part := client.recv(MEGABYTE):
            data += part
    except ConnectionResetError:
        pass
    found = []
    while len(data) >= 4:
        (length,) = LENGTH.unpack(data[:4])
        found.append(msgspec.json.decode(data[4 : 4 + length]))
        data = data[4 + length :]
    return found


def packed(data: bytes) -> bytes:
    return LENGTH.pack(len(data)) + data


def serves(broken: Any, name: str) -> None:
    """A job goes through, so the pool serves others."""
    broken.enqueue("echo served", id=name)
    assert broken.ended(name).stdout == "served\n"


NONSENSE = {
    "random": random.Random(5).randbytes(5000),
    "too long": LENGTH.pack(100 * MEGABYTE) + b"x" * MEGABYTE,
    "no JSON": packed(b"\xff\xfe{"),
    "deeply nested": packed(b'{"type":"Hello","x":' + b"[" * MEGABYTE),
    "no greeting": framing.encode(Status()),
    "from the future": packed(b'{"type":"Hello","protocol":99}'),
    "unknown request": HELLO + packed(b'{"type":"Destroy"}'),
    "wrong types": HELLO + packed(b'{"type":"Get","ids":{"a":1}}'),
    "greets twice": HELLO + HELLO,
    "empty": HELLO + packed(b""),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_answered_by_an_error_and_a_closed_connection(
    broken: Any, connect: Callable[..., Any], kind: str
) -> None:
    client = connect()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(NONSENSE[kind])
    replies = answers(client)
    assert replies == [] if kind == "too long" and not replies else replies[-1]["type"] == "Failed"
    serves(broken, "after")
    assert "Traceback" not in broken.log()


def test_a_client_that_vanishes_or_sends_half_a_message_costs_nobody_anything(
    broken: Any, connect: Callable[..., Any]
) -> None:
    for request in (
        b"",
        HELLO[:3],
        HELLO,
        HELLO + framing.encode(Watch())[:7],
        HELLO + framing.encode(Find(output=True)),
    ):
        connect(request).close()
        connect(request)
    serves(broken, "after")
    assert "Traceback" not in broken.log()


def test_500_clients_at_once_are_served_and_one_more(broken: Any, connect: Callable[..., Any]) -> None:
    clients = [connect(HELLO) for _ in range(500)]
    serves(broken, "meanwhile")
    for client in clients:
        client.sendall(framing.encode(Get(["meanwhile"])))
    for client in clients:
        client.shutdown(socket.SHUT_WR)
        assert [reply["type"] for reply in answers(client)] == ["Hello", "Jobs", "Done"]


def memory(broken: Any) -> int:
    return psutil.Process(broken.pools[0].pid).memory_info().rss


@pytest.mark.slow
def test_a_client_that_stops_reading_costs_bounded_memory_and_holds_up_no_stop(
    broken: Any, connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = [connect(HELLO + framing.encode(Watch())) for _ in range(4)]
    for number in range(30):
        broken.enqueue("head -c 15000 /dev/zero | tr '\\0' x", id=f"n{number}")
    broken.ended("n29")
    before = memory(broken)
    stalled += [connect(HELLO + framing.encode(Find(output=True)) * 50) for _ in range(10)]
    serves(broken, "meanwhile")
    assert memory(broken) - before < 60 * MEGABYTE
    broken.pools[0].send_signal(signal.SIGTERM)
    assert broken.pools[0].wait(15) == 0


def test_a_long_message_in_pieces_from_many_clients_costs_no_more_than_it_holds(
    broken: Any, connect: Callable[..., Any]
) -> None:
    before = memory(broken)
    for _ in range(20):
        connect(HELLO, LENGTH.pack(8 * MEGABYTE - 1))
    serves(broken, "meanwhile")
    assert memory(broken) - before < 20 * MEGABYTE


def test_only_the_user_can_reach_the_store_and_its_socket(broken: Any, connect: Callable[..., Any]) -> None:
    serves(broken, "made")
    assert stat.S_IMODE(broken.store.stat().st_mode) == 0o700
    for path in broken.store.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE(control_socket_path(broken.store).stat().st_mode) & 0o077 == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to become another user")
def test_another_user_is_not_served_even_where_the_file_modes_would_let_them(
    broken: Any, connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert control_socket_path(broken.store) == broken.store / "socket"
    for place in (broken.store / "socket", broken.store):
        place.chmod(0o777)
    monkeypatch.chdir(broken.store)  # so what is above may stay closed to the other user
    os.seteuid(65534)
    try:
        client = connect(path="socket")
    finally:
        os.seteuid(0)
    with contextlib.suppress(BrokenPipeError):
        client.sendall(HELLO)
    assert answers(client) == []


def test_a_store_that_others_can_write_is_refused_with_the_command_that_mends_it(broken: Any) -> None:
    broken.enqueue("true", id="a")
    broken.store.chmod(0o770)
    status, output = broken.run("list")
    assert status == 5
    assert f"chmod 700 {broken.store}" in output
    broken.store.chmod(0o700)
    assert broken.run("list")[0] == 0


@pytest.mark.parametrize("field", ["id", "queue", "tags"])
@pytest.mark.parametrize("name", ["../../escape", "a/b", "forged\ncompleted", "\x1b[2J", "", "."])
def test_a_name_can_neither_leave_the_store_nor_forge_a_line(broken: Any, field: str, name: str) -> None:
    value = [name] if field == "tags" else name
    spec = msgspec.json.encode({"command": "true", field: value}).decode()
    status, output = broken.run("enqueue", spec)
    assert status == 2
    assert output.count("\n") == 1
    assert "\x1b" not in output


def test_a_store_whose_path_is_too_long_for_a_socket_works(broken: Any, tmp_path: Path) -> None:
    broken.store = tmp_path / ("long" * 30) / "store"
    broken.environ["AQUEUE_STORE"] = str(broken.store)
    broken.pool()
    serves(broken, "a")
    assert broken.run("worker", "stop")[0] == 0
