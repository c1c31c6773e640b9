"""The encoding that stdio servers are read in: UTF-8, and no line that is longer than a message may be."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlast.adapters.mcp.sdk import stdio_lines

LIMIT = 8

reads = st.lists(st.text("aä👋\n").map(str.encode) | st.binary(), max_size=12).map(
    lambda given: [one[:LIMIT] for one in given]
)
"""The most bytes that are read at a time: fewer than a line may have."""


@given(reads=reads)
@example(reads=[b"a" * LIMIT, b"\n", b"a" * LIMIT])
@example(reads=[b"a" * LIMIT, b"a\n"])
@example(reads=[b"a\naaaaa", b"aaa", b"\naaa"])
def test_lines_are_read_up_to_the_first_that_is_too_long_which_is_reported_once(reads: list[bytes]) -> None:
    calls: list[int] = []
    token = stdio_lines.on_long_line.set(lambda: calls.append(len(texts)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stdio_lines, "MESSAGE_BYTES_MAX", LIMIT)
        decoder = codecs.getincrementaldecoder(stdio_lines.ENCODING)("replace")
        texts: list[str] = []
        for read in reads:
            texts.append(decoder.decode(read))
    stdio_lines.on_long_line.reset(token)

    def fits(count: int) -> bool:
        return all(len(line) <= LIMIT for line in b"".join(reads[:count]).split(b"\n"))

    readable = next((count for count in range(len(reads)) if not fits(count + 1)), len(reads))
    assert calls == ([readable] if readable < len(reads) else [])
    utf_8 = codecs.getincrementaldecoder("utf-8")("replace")
    assert "".join(texts) == "".join(utf_8.decode(read) for read in reads[:readable])


@given(text=st.text())
def test_lines_are_written_as_utf_8(text: str) -> None:
    assert text.encode(stdio_lines.ENCODING) == text.encode()
    assert text.encode().decode(stdio_lines.ENCODING) == text
