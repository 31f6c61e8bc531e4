"""Log lines for people or for programs, and what they say of each request.

A request's line says what was learned on its way: whoever reads or answers it notes that with
`note`, without knowing who writes the line.
"""

import logging
import secrets
import time
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from itertools import count

import orjson

# Lines of requests. Without `set_up` they are not written.
REQUESTS = logging.getLogger("exitkit.requests")
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
ID_LENGTH = 128
# Ids that are made: of this process, and rising. (Random ones cost a call of the system each.)
PROCESS, NUMBERS = secrets.token_hex(4), count()


@dataclass(slots=True)
class Note:
    """What is known of one request.

    Attributes:
        id: that its client gave, or one that was made.
        named: whether the client gave it.
        model: that answered; empty where none did.
        exits: images by the exit that answered.
    """

    id: str
    named: bool
    model: str = ""
    exits: dict[str, int] = field(default_factory=dict)


_current: ContextVar[Note | None] = ContextVar("note", default=None)


class Noting:
    """Note what a `with` block, and the tasks that it starts, learn of one request.

    Args:
        given: its id, from the transport. One that is longer than 128 characters, or not of
            printable ASCII, could break lines and headers; then one is made, as for none.
    """

    def __init__(self, given: str = "") -> None:
        named = is_id(given)
        self.note = Note(given if named else f"{PROCESS}{next(NUMBERS):08x}", named)
        self._token: Token[Note | None]

    def __enter__(self) -> Note:
        self._token = _current.set(self.note)
        return self.note

    def __exit__(self, *error: object) -> None:
        _current.reset(self._token)


def is_id(text: str) -> bool:
    """Return whether a text can be a request's id in lines and headers."""
    return 0 < len(text) <= ID_LENGTH and text.isascii() and text.isprintable()


def identify(given: str) -> None:
    """Take an id from a request's body, where the transport brought none."""
    about = _current.get()
    if about is not None and not about.named and is_id(given):
        about.id, about.named = given, True


def answered(model: str, exits: dict[str, int]) -> None:
    """Note who answered, and how many images each exit did."""
    about = _current.get()
    if about is not None:
        about.model, about.exits = model, exits


def line(about: Note, route: str, status: int, seconds: float) -> None:
    """Write one request's line, where lines are asked for."""
    if not REQUESTS.isEnabledFor(logging.INFO):
        return
    images, ms = sum(about.exits.values()), round(seconds * 1e3, 3)
    fields = {"id": about.id, "route": route, "status": status, "ms": ms}
    text = f"{route} {status} {ms:.1f} ms"
    if images:
        fields |= {"model": about.model, "images": images, "exits": about.exits}
        taken = ", ".join(f"{n} at exit {k}" for k, n in about.exits.items())
        text += f", {about.model}: {taken}"
    REQUESTS.info("%s, id %s", text, about.id, extra={"fields": fields})


class Json(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields of a request."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        whole, part = time.gmtime(record.created), int(record.msecs)
        table = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', whole)}.{part:03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            table["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(table, default=str).decode()


def set_up(log: str) -> None:
    """Write lines as "text" or as "json", with one for each request; "quiet" changes nothing.

    Warnings and errors are always written. For the process that serves, once.
    """
    logging.basicConfig(level=logging.WARNING)  # to stderr, unless somebody has settled it before
    if log == "quiet":
        return
    for handler in logging.getLogger().handlers:
        handler.setFormatter(Json() if log == "json" else logging.Formatter(TEXT))
    REQUESTS.setLevel(logging.INFO)
