"""What a message is made of, before it is parsed: the parser lets nothing else run meanwhile.

It makes a gigabyte of 32 MB that hold nothing but empty fields. Here only tags and lengths are
read, of the message and of those within it; files and raw tensors are passed over as a whole.
"""

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from exitkit.errors import TooLarge

# Shorter messages are parsed without a look: whatever they hold, it is little.
SMALL = 16 * 2**10
# Of a message and of all within it. A request with as many files as the limit allows has some 300.
FIELDS = 8192
# Of numbers, names and texts: all but files and raw tensors. A million numbers of FP32.
PLAIN_BYTES = 4 * 2**20
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # types on the wire
FIXED = {FIXED64: 8, FIXED32: 4}
LONGEST = 10  # bytes of a varint


def check(kind: Descriptor, body: bytes) -> None:
    """Refuse a message that would take long to parse, or much memory.

    Args:
        kind: of message.
        body: its bytes.

    Raises:
        TooLarge: it has too many fields, or too much beside files and raw tensors.
        DecodeError: it is no message; one that passes may still be none.
    """
    if len(body) <= SMALL:
        return
    walk = _Walk(body)
    walk.read(kind, 0, len(body))
    plain = len(body) - walk.raw
    if plain > PLAIN_BYTES:
        raise TooLarge(
            f"a message of {len(body)} bytes",
            f"{plain} are numbers and texts in fields, the limit is {PLAIN_BYTES}",
            "send tensors in raw_input_contents",
        )


class _Walk:
    """A walk from tag to tag.

    Attributes:
        fields: passed so far.
        raw: bytes in fields of bytes.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.fields = self.raw = 0

    def read(self, kind: Descriptor, at: int, end: int) -> None:
        """Pass over a message of a kind, which lies from `at` to `end`."""
        known = kind.fields_by_number
        while at < end:
            self.fields += 1
            if self.fields > FIELDS:
                raise TooLarge(
                    f"a message of {len(self.body)} bytes",
                    f"has more fields than {FIELDS}, the limit",
                    "send tensors in raw_input_contents, and fewer of them",
                )
            tag, at = self._varint(at, end)
            wire = tag & 7
            if wire == VARINT:
                _, at = self._varint(at, end)
            elif wire == LENGTH:
                size, at = self._varint(at, end)
                if size > end - at:
                    raise DecodeError("it is cut off")
                field = known.get(tag >> 3)
                if field is not None and field.type == FieldDescriptor.TYPE_MESSAGE:
                    self.read(field.message_type, at, at + size)
                elif field is not None and field.type == FieldDescriptor.TYPE_BYTES:
                    self.raw += size
                at += size
            elif wire in FIXED:
                at += FIXED[wire]
            else:
                raise DecodeError("it has groups")
        if at != end:
            raise DecodeError("it is cut off")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """Return a number, and where it ends."""
        value = 0
        for k, byte in enumerate(self.body[at : min(end, at + LONGEST)]):
            value |= (byte & 0x7F) << 7 * k
            if byte < 0x80:
                return value, at + k + 1
        raise DecodeError("it is cut off")
