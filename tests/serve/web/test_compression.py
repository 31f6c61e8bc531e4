"""Packed bodies: what comes in is unpacked within the limit, what goes out where that pays."""

import gzip
import zlib

import pytest

from exitkit.errors import RequestError, TooLarge
from exitkit.serve.web import compression

TEXT = b"the same again and again, " * 40


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP", " deflate "])
def test_a_body_is_unpacked(encoding: str) -> None:
    packed = gzip.compress(TEXT) if "gzip" in encoding.lower() else zlib.compress(TEXT)
    assert compression.unpack(packed, encoding, 10_000) == TEXT


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_packed_here_is_smaller_and_everybody_can_unpack_it(encoding: str) -> None:
    packed = compression.pack(TEXT, encoding)
    assert len(packed) < len(TEXT)
    assert (gzip.decompress if encoding == "gzip" else zlib.decompress)(packed) == TEXT


def test_a_body_may_have_exactly_as_many_bytes_as_the_limit() -> None:
    packed = gzip.compress(TEXT)
    assert compression.unpack(packed, "gzip", len(TEXT)) == TEXT
    with pytest.raises(TooLarge, match=f"more than {len(TEXT) - 1} bytes"):
        compression.unpack(packed, "gzip", len(TEXT) - 1)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    import tracemalloc

    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(TooLarge) as caught:
        compression.unpack(bomb, "gzip", 100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.status == 413
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is cut off"),
        (b"{}", "is damaged"),
        (gzip.compress(TEXT)[:-1], "is cut off"),
        (gzip.compress(TEXT)[:20], "is cut off"),
        (gzip.compress(TEXT)[:-8] + bytes(8), "is damaged"),
        (gzip.compress(TEXT) + b"x", "bytes follow its end"),
        (zlib.compress(TEXT), "is damaged"),
    ],
    # Named, because gzip writes the time into its head: the names would change by the second.
    ids=["nothing", "plain", "no end", "a start", "wrong sum", "more", "deflate"],
)
def test_a_damaged_body_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        compression.unpack(body, "gzip", 10_000)
    assert caught.value.status == 400


@pytest.mark.parametrize("encoding", ["br", "gzip, deflate", "", "zstd", "x" * 500])
def test_other_encodings_are_415(encoding: str) -> None:
    with pytest.raises(RequestError, match="send gzip, deflate, or plain") as caught:
        compression.unpack(b"", encoding, 10)
    assert caught.value.status == 415
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("GZIP ; q=1", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=high, deflate;level=3", None),
        ("gzip;q=nan", None),
    ],
)
def test_the_best_liked_encoding_is_chosen(accepted: str | None, chosen: str | None) -> None:
    assert compression.choose(accepted) == chosen
