"""JSON objects out of bodies; one that would take long to parse is refused before that.

The parser lets nothing else run meanwhile, nor does NumPy when it makes an array of its list, and
both make a hundred bytes of three (`[],`). What counts is how many values there are: a file of
60 MB in base64 is one, and read in a fifth of a second, as two million numbers are.
"""

import orjson

from exitkit.errors import RequestError, TooLarge
from exitkit.serve.tables import Table

# Values of one body: numbers, texts, lists and objects, each of which follows a comma or a bracket.
# 256 images of 3x32x32 have three eighths of it, 13 of 3x224x224 nearly all.
MOST = 2**21


def read(body: bytes | memoryview, example: str) -> Table:
    """Return the object that a body is.

    Args:
        body: all of it.
        example: what could have been sent instead, for errors.

    Raises:
        RequestError: it is no JSON, or no object.
        TooLarge: it has too many values.
    """
    text = bytes(body)
    found = sum(map(text.count, (b",", b"[", b"{"))) if len(text) > MOST else 0
    if found > MOST:
        raise TooLarge(
            "request body",
            f"has {found} values in JSON, the limit is {MOST}",
            "send tensors in binary, or image files",
        )
    try:
        table = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RequestError("request body", f"is no JSON ({error})", "send a JSON object") from error
    if not isinstance(table, dict):
        raise RequestError("request body", "is no JSON object", f"send {example}")
    return table
