"""Decompresses the bodies of answers over HTTP in small pieces, without I/O.

A small compressed body can become gigabytes. So whoever reads a body from a server takes it piece by piece,
counts what comes out, and stops when it is too much. HTTP clients decompress as a whole, so they are asked
not to.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

ACCEPTED = "gzip, deflate"
"""The value of the header Accept-Encoding that asks for what can be decompressed here."""
PIECE_BYTES_MAX = 64 * 1024
_GZIP = b"\x1f\x8b"


class Decompression:
    """The decompression of one body in gzip or deflate."""

    def __init__(self) -> None:
        self._begun = b""
        self._inflate: Any = None
        self._is_first = True
        self._has_ended = False

    def pieces(self, received: bytes) -> Iterator[bytes]:
        """Yield what comes out of the next bytes of the body, in pieces of at most `PIECE_BYTES_MAX`.

        Raises:
            zlib.error: the body is not compressed in this way.
        """
        while received and not self._has_ended:
            if self._inflate is None:
                received = self._begun + received
                self._begun = b""
                if len(received) < 2:
                    self._begun = received
                    return
                # Something else than another part in gzip does not belong to the body.
                self._has_ended = not self._is_first and not received.startswith(_GZIP)
                if self._has_ended:
                    return
                self._inflate = zlib.decompressobj(_window_bits(received))
            piece = self._inflate.decompress(received, PIECE_BYTES_MAX)
            received = self._inflate.unconsumed_tail
            yield piece
            while len(piece) == PIECE_BYTES_MAX and not received:
                yield (piece := self._inflate.decompress(b"", PIECE_BYTES_MAX))
            if self._inflate.eof:
                received, self._inflate, self._is_first = self._inflate.unused_data, None, False


def decompression(encoding: str) -> Decompression | None:
    """Return the decompression for the value of the header Content-Encoding; None if nothing is compressed.

    Raises:
        ValueError: nothing else than gzip and deflate is accepted.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return Decompression()
    raise ValueError(f"its body is compressed with {encoding!r}; only gzip and deflate are accepted")


def _window_bits(begin: bytes) -> int:
    """Return what zlib needs to know: gzip, zlib, or deflate without a header, which some servers send."""
    has_header = begin[:2] == _GZIP or (begin[0] & 15 == 8 and int.from_bytes(begin[:2]) % 31 == 0)
    return 32 + zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
