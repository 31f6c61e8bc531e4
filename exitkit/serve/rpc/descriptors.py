"""Classes for the messages of `messages`, in a pool of their own.

Protobuf keeps one message of a name in its default pool, and Triton's client registers the same
names there; a process may well use that client and serve.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto as Table
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from exitkit.serve.rpc.messages import CHOICES, ENUMS, MESSAGES, Fields

SCALARS = ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")


def build(
    pool: descriptor_pool.DescriptorPool,
    package: str,
    messages: Mapping[str, Fields],
    enums: Mapping[str, Sequence[str]],
    choices: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, type[Any]]:  # Any: made at run time
    """Add messages to a pool and return their classes by name.

    Args:
        pool: that has no package of that name yet.
        package: that the messages are in.
        messages: as in `messages.MESSAGES`,
        enums: `ENUMS`,
        choices: and `CHOICES`.
    """
    file = FileDescriptorProto(name=f"exitkit/{package}.proto", package=package, syntax="proto3")
    for name, values in enums.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    tables: dict[str, Table] = {}
    for name, fields in messages.items():
        outer, _, inner = name.rpartition(".")
        beside = tables[outer].nested_type if outer else file.message_type
        tables[name] = beside.add(name=inner)
        _fill(tables[name], fields, enums, choices.get(name))
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


def _fill(
    table: Table, fields: Fields, enums: Mapping[str, Sequence[str]], choice: str | None
) -> None:
    if choice is not None:
        table.oneof_decl.add(name=choice)
    for name, (text, number) in fields.items():
        label, _, kind = text.rpartition(" ")
        field = table.field.add(name=name, number=number, label=Field.LABEL_OPTIONAL)
        if choice is not None:
            field.oneof_index = 0
        if label:
            field.label = Field.LABEL_REPEATED
        if label == "map":
            kind = _entry(table, name, kind)
        _set_type(field, kind, enums)


def _entry(table: Table, field_name: str, kind: str) -> str:
    """Add what a map from strings is on the wire: a repeated message of keys and values."""
    name = "".join(word.title() for word in field_name.split("_")) + "Entry"
    entry = table.nested_type.add(name=name)
    entry.options.map_entry = True
    for number, (key, type_) in enumerate((("key", "string"), ("value", kind)), start=1):
        field = entry.field.add(name=key, number=number, label=Field.LABEL_OPTIONAL)
        _set_type(field, type_, {})
    return name


def _set_type(field: Field, kind: str, enums: Mapping[str, Sequence[str]]) -> None:
    if kind in SCALARS:
        field.type = Field.Type.Value(f"TYPE_{kind.upper()}")
        return
    field.type = Field.TYPE_ENUM if kind in enums else Field.TYPE_MESSAGE
    field.type_name = kind  # found in the message that the field is in, or around it


CLASSES: dict[str, type[Any]] = build(
    descriptor_pool.DescriptorPool(), "inference", MESSAGES, ENUMS, CHOICES
)
