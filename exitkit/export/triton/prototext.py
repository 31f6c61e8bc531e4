"""Protocol-buffer text: what a `config.pbtxt` is written in."""

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 100
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Word(str):
    """A name that stands without quotes: a value of an enumeration."""


# Field -> words, a number, a list of numbers, a message, or several: nested, so Any.
Message = Mapping[str, Any]


def text(message: Message) -> str:
    """Write a message, a field a line or more.

    A mapping becomes a nested message, a sequence of mappings a repeated one, a sequence of
    numbers a list; strings are quoted, `Word`s are not.
    """
    return "".join(f"{line}\n" for line in _lines(message))


def quoted(words: str) -> str:
    """Return a string literal; what is not a printable character of ASCII stands as its bytes."""
    return '"' + "".join(ESCAPES.get(sign) or _sign(sign) for sign in words) + '"'


def _lines(message: Message) -> list[str]:
    lines: list[str] = []
    for name, value in message.items():
        if isinstance(value, Mapping):
            lines += _nested(name, value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            nested = [entry for entry in value if isinstance(entry, Mapping)]
            for entry in nested:
                lines += _nested(name, entry)
            if not nested:
                lines.append(f"{name}: [{', '.join(map(str, value))}]")
        else:
            lines.append(f"{name}: {_scalar(value)}")
    return lines


def _nested(name: str, message: Message) -> list[str]:
    """Return a message in one line where it fits, else with its fields below each other."""
    inside = _lines(message)
    short = f"{name} {{ {' '.join(inside)} }}" if inside else f"{name} {{ }}"
    if len(short) <= WIDTH:
        return [short]
    return [f"{name} {{", *(f"  {line}" for line in inside), "}"]


def _scalar(value: str | int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) and not isinstance(value, Word) else str(value)


def _sign(sign: str) -> str:
    if " " <= sign <= "~":
        return sign
    return "".join(f"\\{byte:03o}" for byte in sign.encode("utf-8"))
