"""JSON objects out of bodies; one that would take seconds to parse is refused before that.

The parser lets nothing else run meanwhile, and makes a hundred bytes of three (`[],`).
"""

import orjson

from exitkit.errors import RequestError, TooLarge
from exitkit.serve.tables import Table

# Lists, objects and named values of one body. 256 images of 512 rows, nested row by row, have
# three quarters of it.
MOST = 2**19


def read(body: bytes | memoryview, example: str) -> Table:
    """Return the object that a body is.

    Args:
        body: all of it.
        example: what could have been sent instead, for errors.

    Raises:
        RequestError: it is no JSON, or no object.
        TooLarge: it has too many lists, objects and names.
    """
    text = bytes(body)
    found = sum(map(text.count, (b"[", b"{", b":"))) if len(text) > MOST else 0
    if found > MOST:
        raise TooLarge(
            "request body",
            f"has {found} lists, objects and names in JSON, the limit is {MOST}",
            "send a flat list of numbers, or binary",
        )
    try:
        table = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RequestError("request body", f"is no JSON ({error})", "send a JSON object") from error
    if not isinstance(table, dict):
        raise RequestError("request body", "is no JSON object", f"send {example}")
    return table
