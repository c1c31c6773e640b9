"""Compressed bodies come out as they went in, in small pieces, however they are cut on the way."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlast.core.compression import PIECE_BYTES_MAX, Decompression, decompression


def raw_deflate(data: bytes) -> bytes:
    """Return `data` in deflate without a header."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def gzip_in_parts(data: bytes) -> bytes:
    return gzip.compress(data[:3]) + gzip.compress(data[3:])


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip in parts": ("X-GZip", gzip_in_parts),
    "zlib": (" deflate", zlib.compress),
    "deflate": ("deflate", raw_deflate),
}


def unpacked(encoding: str, cuts: list[bytes]) -> Iterator[bytes]:
    unpacking = decompression(encoding)
    assert unpacking is not None
    for received in cuts:
        yield from unpacking.pieces(received)


@given(
    way=st.sampled_from(sorted(PACKERS)),
    data=st.binary() | st.binary(min_size=1, max_size=4).map(lambda few: few * 50_000),
    cut=st.integers(1, 1000),
    rest=st.sampled_from([b"", b"more", b"\n" * 3]),
)
@example(way="gzip", data=b"a" * PIECE_BYTES_MAX * 3, cut=1, rest=b"")
@example(way="deflate", data=b"a" * (PIECE_BYTES_MAX + 1), cut=80, rest=b"")
@example(way="gzip", data=b"a" * (PIECE_BYTES_MAX + 1), cut=90, rest=b"")
@example(way="gzip", data=b"", cut=1000, rest=b"\x1f")
def test_what_was_packed_comes_out_in_small_pieces(way: str, data: bytes, cut: int, rest: bytes) -> None:
    encoding, pack = PACKERS[way]
    body = pack(data) + rest
    pieces = list(unpacked(encoding, [body[at : at + cut] for at in range(0, len(body), cut)]))
    assert b"".join(pieces) == data
    assert all(len(piece) <= PIECE_BYTES_MAX for piece in pieces)


def test_what_follows_a_body_is_not_kept() -> None:
    unpacking = Decompression()
    assert b"".join(unpacking.pieces(gzip.compress(b"body") + b"more")) == b"body"
    assert list(unpacking.pieces(b"and more" * 100)) == []


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_nothing_is_done_where_nothing_is_compressed(encoding: str) -> None:
    assert decompression(encoding) is None


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "gzip, gzip"])
def test_another_compression_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(ValueError, match=f"compressed with '{encoding}'; only gzip and deflate are accepted"):
        decompression(encoding)


def test_a_body_that_is_not_compressed_is_an_error() -> None:
    with pytest.raises(zlib.error):
        list(Decompression().pieces(b"\xff" * 20))
