"""The protocol without a socket: bytes in, events out, however the bytes are cut on their way."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqueue import errors
from aqueue.control import framing, requests
from aqueue.control.conversation import ClientConversation, Event, ServerConversation
from aqueue.control.requests import Done, Enqueue, Failed, Get, Hello, Ids, Import, Jobs, Part, Request
from aqueue.errors import AqueueError, InvalidRequest, PoolGone
from aqueue.jobs.job import Job, utc_now
from aqueue.jobs.spec import NewJob

NOW = utc_now()


def job(number: int, **fields: object) -> Job:
    return Job(id=f"j{number}", seq=number, command="true", created_at=NOW, **fields)  # type: ignore[arg-type]


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """`data` as a socket might deliver it."""
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


def events_of(conversation: ClientConversation | ServerConversation) -> Iterator[Part | Request | Event]:
    while (event := conversation.next_event()) is not Event.NEED_DATA:
        yield event


def greeted() -> ClientConversation:
    client = ClientConversation()
    client.receive(framing.encode(Hello()))
    assert list(events_of(client)) == [Event.GREETED]
    return client


cuts = st.lists(st.integers(1, 60), max_size=200)


@given(cuts)
def test_a_server_reads_the_same_requests_however_the_bytes_come(sizes: list[int]) -> None:
    sent: list[Request] = [Get(["a", "b"]), requests.Status(), Enqueue([NewJob(command="true", id="a")])]
    client, server = ClientConversation(), ServerConversation()
    data = client.greeting() + b"".join(part for request in sent for part in client.request(request))
    seen: list[object] = []
    for piece in pieces(data, sizes):
        server.receive(piece)
        seen += events_of(server)
    assert seen == [Event.GREETED, *sent]


@given(cuts)
def test_a_client_reads_the_same_answers_however_the_bytes_come(sizes: list[int]) -> None:
    client, server = ClientConversation(), ServerConversation()
    parts: list[Part] = [Jobs([job(1), job(2)]), Ids(["a"])]
    answers = b"".join(data for part in parts for data in server.answer(part))
    data = server.greeting() + answers + server.end_of_answer() + answers
    seen: list[object] = []
    for piece in pieces(data, sizes):
        if piece:
            client.receive(piece)
        seen += events_of(client)
    assert seen == [Event.GREETED, *parts, Event.END_OF_ANSWER, *parts]


def test_what_was_sent_before_the_pool_went_away_is_still_read() -> None:
    client = greeted()
    client.receive(framing.encode(Ids(["a"])) + framing.encode(Ids(["b"]))[:-1])
    client.receive(b"")
    assert client.next_event() == Ids(["a"])
    with pytest.raises(PoolGone, match="went away before it answered"):
        client.next_event()


@pytest.mark.parametrize("kind", [*errors.BY_KIND, "FromTheFuture"])
def test_an_error_is_raised_as_what_it_was(kind: str) -> None:
    client = greeted()
    client.receive(framing.encode(Failed(kind, "because")))
    with pytest.raises(AqueueError, match=r"^because$") as raised:
        client.next_event()
    assert type(raised.value) is errors.BY_KIND.get(kind, AqueueError)


def test_an_error_of_the_service_arrives_as_it_was_raised() -> None:
    client = greeted()
    client.receive(ServerConversation().failure(errors.UnknownJob("no job a")))
    with pytest.raises(errors.UnknownJob, match=r"^no job a$"):
        client.next_event()
    client.receive(framing.encode(Done()))
    assert client.next_event() is Event.END_OF_ANSWER


@pytest.mark.parametrize("side", [ClientConversation, ServerConversation])
def test_another_version_is_refused_in_one_line_that_names_both(
    side: type[ClientConversation] | type[ServerConversation],
) -> None:
    conversation = side()
    conversation.receive(framing.encode(Hello(protocol=1)))
    with pytest.raises(InvalidRequest) as refused:
        conversation.next_event()
    message = str(refused.value)
    assert "speaks version 1 of the protocol" in message
    assert f"version {requests.PROTOCOL}: use the same version of aqueue for both" in message
    assert "\n" not in message


@pytest.mark.parametrize("message", [Done(), Ids([]), Jobs([])])
def test_a_pool_that_does_not_greet_is_refused(message: requests.Reply) -> None:
    client = ClientConversation()
    client.receive(framing.encode(message))
    with pytest.raises(InvalidRequest, match="was no greeting"):
        client.next_event()


def test_a_message_that_is_too_long_is_refused_before_it_is_read() -> None:
    server = ServerConversation()
    server.receive((framing.MAX_REQUEST + 1).to_bytes(4, "big"))
    with pytest.raises(InvalidRequest, match="is too long: 2097152 are allowed"):
        server.next_event()


@pytest.mark.parametrize("kind", ["enqueue", "import"])
def test_a_batch_that_is_too_long_for_one_message_goes_in_several(kind: str) -> None:
    text = "x" * 100_000
    batch: Request
    if kind == "enqueue":
        batch = Enqueue([NewJob(command=f"{n} {text}") for n in range(70)], if_absent=True)
    else:
        batch = Import([job(n, stdout=text) for n in range(70)])
    server = ServerConversation()
    server.receive(ClientConversation().greeting())
    assert server.next_event() is Event.GREETED
    received = []
    for data in ClientConversation().request(batch):
        assert len(data) <= framing.MAX_REQUEST + 4
        server.receive(data)
        received += list(events_of(server))
    assert len(received) > 3
    messages = [message for message in received if isinstance(message, Enqueue | Import)]
    assert [message.more for message in messages] == [True] * (len(received) - 1) + [False]
    if isinstance(batch, Enqueue):
        assert [spec for part in messages if isinstance(part, Enqueue) for spec in part.specs] == batch.specs
        assert all(part.if_absent for part in messages if isinstance(part, Enqueue))
    else:
        assert [each for part in messages if isinstance(part, Import) for each in part.jobs] == batch.jobs


def test_a_long_answer_goes_in_several_messages() -> None:
    jobs = [job(number) for number in range(1201)]
    client = greeted()
    for data in ServerConversation().answer(Jobs(jobs)):
        client.receive(data)
    parts = [part for part in events_of(client) if isinstance(part, Jobs)]
    assert [len(part.jobs) for part in parts] == [500, 500, 201]
    assert [each for part in parts for each in part.jobs] == jobs
