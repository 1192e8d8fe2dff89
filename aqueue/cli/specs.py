"""From what somebody typed to `JobSpec`s: JSON or a plain command, from an argument or line by line.

Whatever cannot become a job is an `InvalidJob` of one line that names the line, the field and what is allowed.
"""

import shlex
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec

from aqueue.errors import UNREADABLE, DuplicateJob, InvalidJob, printable
from aqueue.jobs.fields import shown
from aqueue.jobs.job import Job
from aqueue.jobs.spec import FIELDS, Defaults, JobSpec, NewJob, first_duplicate

_SET_BY_AQUEUE = {"attempts", "finished_at", "history", "started_at", "state", "updated_at", *Job.__struct_fields__} - {
    *FIELDS
}
Complete = Callable[[JobSpec], NewJob]
"""Fills what a spec leaves open, and checks it. Raises `InvalidJob`."""
_decoder = msgspec.json.Decoder(JobSpec)
_list_decoder = msgspec.json.Decoder(list[JobSpec])


def from_argument(text: str) -> list[JobSpec]:
    """The jobs that one argument asks for: a JSON object, a JSON array, or a plain command."""
    start = text.lstrip()[:1]
    if start == "[":
        return from_array(_utf8(text))
    if start == "{":
        return [from_object(_utf8(text))]
    return from_command(text)


def from_command(text: str) -> list[JobSpec]:
    """The job that runs this command line, whatever it starts with."""
    _utf8(text)
    return [JobSpec(command=text)]


def from_words(words: list[str]) -> list[JobSpec]:
    """The job that runs exactly these words: a program and its arguments."""
    if not words:
        raise InvalidJob("command is empty: give a program and its arguments after --")
    return from_command(shlex.join(words))


def _utf8(text: str) -> bytes:
    # An argument that was not UTF-8 comes with surrogates, and a record could not keep it as it is.
    try:
        return text.encode()
    except UnicodeEncodeError:
        shown = text.encode(errors="surrogateescape").decode(errors="replace")
        raise InvalidJob(f"command {shown!r} is not valid UTF-8") from None


def from_object(data: bytes) -> JobSpec:
    try:
        return _decoder.decode(data)
    except UNREADABLE as error:
        raise InvalidJob(explain(data, error)) from None


def from_array(data: bytes) -> list[JobSpec]:
    try:
        return _list_decoder.decode(data)
    except UNREADABLE as error:
        return [_item(number, raw) for number, raw in enumerate(_raw_items(data, error), 1)]


def _item(number: int, raw: msgspec.Raw) -> JobSpec:
    try:
        return from_object(bytes(raw))
    except InvalidJob as error:
        raise InvalidJob(f"job {number} of the array: {error}") from None


def _raw_items(data: bytes, error: Exception) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(data, type=list[msgspec.Raw])
    except UNREADABLE:
        raise InvalidJob(explain(data, error)) from None


def explain(data: bytes, error: Exception) -> str:
    """Why `data` is no job, in one line."""
    try:
        given: Any = msgspec.json.decode(data)
    except UNREADABLE as broken:
        why = "not valid UTF-8" if isinstance(broken, UnicodeDecodeError) else f"not valid JSON: {_lower(str(broken))}"
        return f"{why} (a shell command that starts with {{ or [ goes after --command)"
    if not isinstance(given, dict):
        return f"a job must be a JSON object, not {shown(given)}"
    for name in given:
        if name in _SET_BY_AQUEUE:
            return f"{name} cannot be given: aqueue sets it itself; aqueue import takes whole records"
        if name not in FIELDS:
            return f"unknown field {name[:100]!r}: allowed are {', '.join(FIELDS)}"
    if "command" not in given:
        return "command is missing: it must be a shell command line"
    try:
        JobSpec(**given).with_defaults(Defaults(), "/")
    except InvalidJob as wrong:
        return str(wrong)
    return str(error)  # of a key that stands there twice, the last one counts


def _lower(text: str) -> str:
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def from_lines(stream: BinaryIO, name: str, complete: Complete) -> Iterator[NewJob]:
    """The jobs of a stream, complete, one a line: a JSON object, or else a plain command; blank lines are skipped.

    A stream that starts with `[` is one JSON array. Errors name the line; two equal ids are `DuplicateJob`.
    """
    seen: dict[str, int] = {}
    decode = _decoder.decode
    for number, line in enumerate(stream, 1):
        text = line.strip()
        if number == 1:
            text = text.removeprefix(b"\xef\xbb\xbf").lstrip()
            if text[:1] == b"[":
                yield from complete_all(from_array(text + stream.read()), complete)
                return
        if not text:
            continue
        try:
            spec = complete(decode(text) if text[:1] == b"{" else JobSpec(command=text.decode()))
        except UNREADABLE as error:
            why = explain(text, error) if text[:1] == b"{" else "not valid UTF-8"
            raise InvalidJob(f"{name}, line {number}: {why}") from None
        except InvalidJob as error:
            raise InvalidJob(f"{name}, line {number}: {error}") from None
        if spec.id is not None and seen.setdefault(spec.id, number) != number:
            raise DuplicateJob(f"{name}, line {number}: id {spec.id} is that of line {seen[spec.id]} too")
        yield spec


def complete_all(specs: list[JobSpec], complete: Complete) -> list[NewJob]:
    """These jobs, complete; errors say which of several. Raises `DuplicateJob` if two of them have the same id."""
    twice = first_duplicate(spec.id for spec in specs)
    if twice is not None:
        raise DuplicateJob(f"id {printable(twice)} occurs twice in this batch: nothing was queued")
    if len(specs) == 1:
        return [complete(specs[0])]
    return [_complete_item(number, spec, complete) for number, spec in enumerate(specs, 1)]


def _complete_item(number: int, spec: JobSpec, complete: Complete) -> NewJob:
    try:
        return complete(spec)
    except InvalidJob as error:
        raise InvalidJob(f"job {number} of the array: {error}") from None
