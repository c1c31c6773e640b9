"""The encoding that stdio servers are read in: UTF-8, and only whole lines that may be messages."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlast.adapters.mcp import limits
from outlast.adapters.mcp.sdk import stdio_lines

LIMIT = 8

reads = st.lists(st.text('aä👋\n{"', max_size=LIMIT).map(str.encode) | st.binary(max_size=LIMIT), max_size=12)
"""The bytes that are read at a time."""


@dataclass
class Reading:
    """The results of reading the bytes of a server."""

    texts: list[str] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)


@contextmanager
def message_bytes_max(size: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MESSAGE_BYTES_MAX", size)
        yield


def read_all(reads: Sequence[bytes]) -> Reading:
    reading = Reading()
    listener = stdio_lines.StdoutListener(reading.others.extend, reading.refusals.append)
    token = stdio_lines.stdout_listener.set(listener)
    decoder = codecs.getincrementaldecoder(stdio_lines.ENCODING)("replace")
    reading.texts += [decoder.decode(read) for read in reads]
    stdio_lines.stdout_listener.reset(token)
    return reading


def whole_lines(data: bytes) -> list[bytes]:
    return data.split(b"\n")[:-1]


def is_message(line: bytes) -> bool:
    return line.lstrip().startswith(b"{")


@given(reads=reads)
@example(reads=[b"{a", b"b}\n no ", b"message\n", b"\n{}\n{"])
def test_messages_are_passed_on_whole_and_other_lines_apart(reads: list[bytes]) -> None:
    reading = read_all(reads)
    lines = whole_lines(b"".join(reads))
    messages = [line.decode(errors="replace") for line in lines if is_message(line)]
    assert reading.text == "".join(f"{line}\n" for line in messages)
    assert reading.others == [line for line in lines if line and not is_message(line)]
    assert not reading.refusals
    assert all(not text or text.endswith("\n") for text in reading.texts)


@given(reads=reads)
@example(reads=[b"{" * LIMIT, b"\n"])
@example(reads=[b"{" * LIMIT, b"a", b"\n"])
@example(reads=[b"a\n" * 4, b"a\n", b"{}\n"])
def test_reading_ends_once_when_too_much_comes_without_a_message(reads: list[bytes]) -> None:
    with message_bytes_max(LIMIT):
        reading = read_all(reads)
    whole = read_all(reads)
    assert len(reading.refusals) <= 1
    assert whole.text.startswith(reading.text)
    if any(len(line) > LIMIT for line in whole_lines(b"".join(reads)) if is_message(line)):
        assert reading.refusals
    if len(b"".join(reads)) <= LIMIT:
        assert not reading.refusals
        assert reading.text == whole.text


def test_what_a_server_logs_to_stdout_for_long_ends_the_reading_with_advice() -> None:
    with message_bytes_max(1 << 20):
        reading = read_all([b"{}\n", *[b"loading\n" * 100] * 2000, b"{}\n"])
    assert reading.text == "{}\n"
    assert reading.refusals == [
        "it wrote more than 1 MiB to stdout without a message; it must write its log to stderr"
    ]


def test_a_line_in_many_pieces_costs_no_more_than_its_length() -> None:
    """Copying all of it with every piece would be 500 GB here."""
    reading = read_all([b'{"a": "', *[b"x"] * 1_000_000, b'"}\n'])
    assert len(reading.text) == 1_000_010


@given(text=st.text())
def test_lines_are_written_as_utf_8(text: str) -> None:
    assert text.encode(stdio_lines.ENCODING) == text.encode()
    assert text.encode().decode(stdio_lines.ENCODING) == text
