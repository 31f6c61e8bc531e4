"""Image files and wishes out of a request: a form, the file itself, or base64 in JSON."""

import asyncio
import base64
import binascii
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from reprlib import repr as brief  # what clients sent may be long
from typing import Any

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from exitkit.errors import BadImage, RequestError, TooLarge
from exitkit.serve.limits import Limits
from exitkit.serve.web import compression, objects
from exitkit.serve.web.wishes import IN_BODY, once

RAW = ("image/", "application/octet-stream")
FORM, JSON = "multipart/form-data", "application/json"
# Of names and fields of a form. A client could name any other codec of Python, some of which make
# texts that no JSON can hold, raise errors of their own, or take minutes.
CHARSETS = ("utf-8", "utf8", "us-ascii", "iso-8859-1")
# Bodies up to this size are parsed on the event loop: handing them over would take longer.
INLINE_BYTES = 128 * 1024


class UnsupportedType(RequestError):
    """A body of a kind that this route does not read."""

    status = 415


@dataclass(frozen=True)
class Upload:
    """What one request brought.

    Attributes:
        files: the encoded images; an error in the place of one that is no base64.
        names: of the files, None where they have none.
        wishes: by name, that came in the body: texts in a form, values in JSON.
        single: whether one image was sent as such: its answer is no list.
    """

    files: tuple[bytes | RequestError, ...]
    names: tuple[str, ...] | None
    wishes: Mapping[str, Any]  # Any: text or JSON
    single: bool


async def read(request: Request, limits: Limits) -> Upload:
    """Read the body of a request.

    Raises:
        UnsupportedType: a content type or encoding that is not read here.
        RequestError: no image in it, or a form or JSON that cannot be read.
        TooLarge: more images or bytes than the limits allow.
    """
    kind = request.headers.get("content-type", "").lower()
    if kind.startswith(FORM):
        return await _read_form(request, limits)
    if kind.startswith(JSON):
        body = await compression.read(request, limits)
        if len(body) > INLINE_BYTES:
            return await asyncio.to_thread(read_json, body, limits.samples)
        return read_json(body, limits.samples)
    if kind.startswith(RAW):
        body = await compression.read(request, limits)
        if not body:
            raise RequestError("an image", "the body is empty", "send the file as the body")
        return Upload((body,), None, {}, single=True)
    raise UnsupportedType(
        f"content-type {kind or 'none'!r}",
        "no image",
        "send -F file=@x.png, or the file with -H 'Content-Type: image/png' --data-binary @x.png",
    )


async def _pieces(request: Request, limits: Limits) -> AsyncGenerator[bytes]:
    """Yield the body, unpacked, as it comes."""
    if compression.is_plain(request):
        async for piece in request.stream():
            yield piece
    else:
        yield await compression.read(request, limits)


def read_json(body: bytes, samples: int) -> Upload:
    """Read {"image": base64} or {"images": [base64, ...]}, with the wishes beside it.

    Raises:
        RequestError: no such object.
        TooLarge: more than `samples` images, or what `objects` refuses.
    """
    table = objects.read(body, '{"image": "<base64>"}')
    single = "image" in table
    if single == ("images" in table):
        found = "both are there" if single else "neither is there"
        raise RequestError("image or images", found, 'send {"image": "<base64>"}')
    texts = [table.pop("image")] if single else table.pop("images")
    if not isinstance(texts, list) or not texts:
        raise RequestError("images", "is no list of images", 'send {"images": ["<base64>", ...]}')
    if len(texts) > samples:
        raise _too_many(f"{len(texts)} images", samples)
    files = tuple(_decoded(text, place) for place, text in enumerate(texts))
    return Upload(files, None, table, single)


def _decoded(text: Any, place: int) -> bytes | RequestError:
    """Return a file; an error is returned too, since this image alone is to fail."""
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
        found = f"is {type(text).__name__}"
    except (binascii.Error, ValueError) as error:
        found = f"{brief(text)} is no base64 ({error})"
    return BadImage(f"image {place}", found, "send base64 of the file, on one line")


class _Parser(MultiPartParser):
    """Keeps files in memory, where the limit of the body bounds them, and never on a disk."""

    spool_max_size = sys.maxsize


async def _read_form(request: Request, limits: Limits) -> Upload:
    _, options = parse_options_header(request.headers["content-type"])
    charset = options.get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() not in CHARSETS:
        raise UnsupportedType(f"a form in charset {brief(charset)}", "not read here", "use utf-8")
    # As many fields as images: each may have a threshold of its own.
    most = {"max_files": limits.samples, "max_fields": limits.samples + len(IN_BODY)}
    try:
        async with aclosing(_pieces(request, limits)) as pieces:
            form = await _Parser(request.headers, pieces, **most).parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise _too_many("files", limits.samples) from error
        found = error.message.rstrip(".")
        raise RequestError("a form with an image", found, "send -F file=@x.png") from error
    fields: list[tuple[str, str]] = []
    files: list[bytes] = []
    names: list[str] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            files.append(value.file.read())
            names.append(value.filename or "")
            value.file.close()
        else:
            fields.append((name, value))
    if not files:
        raise RequestError("an image", "the form holds no file", "send -F file=@x.png")
    return Upload(tuple(files), tuple(names), once(fields), single=len(files) == 1)


def _too_many(what: str, samples: int) -> TooLarge:
    return TooLarge(what, f"the limit is {samples} a request", "send fewer")
