"""Compressed bodies: requests are unpacked within the limit, answers packed where that pays."""

import asyncio
import zlib

from fastapi import Request

from exitkit.errors import RequestError, TooLarge
from exitkit.serve.limits import Limits
from exitkit.serve.web.bodies import BODY, Body

# What zlib calls the two formats; HTTP's "deflate" is zlib's own.
WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
# What fits into one packet of a network arrives no sooner when it is smaller.
WORTH_BYTES = 1400
LEVEL = 1  # numbers hardly become smaller with more effort
HEADER, PLAIN = "content-encoding", "identity"


class UnsupportedEncoding(RequestError):
    """A body packed in a way that is not read here."""

    status = 415


def is_plain(request: Request) -> bool:
    """Return whether a request's body is not packed."""
    return request.headers.get(HEADER, PLAIN).lower() == PLAIN


async def read(request: Request, limits: Limits) -> bytes:
    """Return the body of a request, unpacked. It counts among all bodies as what it has become.

    Raises:
        RequestError: as `unpack`.
        Overloaded: unpacked, all requests together would hold too many bytes.
    """
    body = await request.body()
    if is_plain(request):
        return body
    encoding = request.headers[HEADER]
    whole = await asyncio.to_thread(unpack, body, encoding, limits.body_bytes)
    held: Body = request.scope[BODY]
    held.hold(max(0, len(whole) - len(body)))
    return whole


def unpack(body: bytes, encoding: str, limit: int) -> bytes:
    """Unpack a body whose Content-Encoding is `encoding`.

    No more than that many bytes are unpacked, however small the body is.

    Raises:
        UnsupportedEncoding: neither gzip nor deflate.
        RequestError: it is damaged, cut off, or something follows its end.
        TooLarge: it has more than `limit` bytes.
    """
    name = encoding.strip().lower()
    if name not in WINDOWS:
        raise UnsupportedEncoding(
            f"content-encoding {encoding[:40]!r}", "not read here", "send gzip, deflate, or plain"
        )
    stream = zlib.decompressobj(WINDOWS[name])
    try:
        whole = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise RequestError(f"a body in {name}", f"is damaged ({error})", "pack it anew") from error
    if len(whole) > limit:
        raise TooLarge(
            f"a body in {name}",
            f"unpacked it has more than {limit} bytes, the limit",
            "send fewer or smaller images",
        )
    if not stream.eof or stream.unused_data:
        found = "bytes follow its end" if stream.eof else "is cut off"
        raise RequestError(f"a body in {name}", found, "send one whole stream")
    return whole


def choose(accepted: str | None) -> str | None:
    """Return the format that an Accept-Encoding likes best of ours; None: leave it plain."""
    if not accepted:
        return None
    wishes: dict[str, float] = {}
    for entry in accepted.lower().split(","):
        name, _, weight = entry.partition(";")
        wishes[name.strip()] = _weight(weight)
    best = max(WINDOWS, key=lambda name: wishes.get(name, 0.0))
    return best if wishes.get(best, 0.0) > 0 else None


def _weight(text: str) -> float:
    """Return the weight of `q=0.5`; one that cannot be read wants nothing."""
    if not text.strip():
        return 1.0
    key, _, value = text.partition("=")
    try:
        return float(value) if key.strip() == "q" else 0.0
    except ValueError:
        return 0.0


def pack(body: bytes, encoding: str) -> bytes:
    """Pack a body as `encoding`, gzip or deflate."""
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOWS[encoding])
    return stream.compress(body) + stream.flush()
