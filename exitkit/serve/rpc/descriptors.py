"""Classes for the messages of `messages`, in a pool of their own.

Protobuf keeps one message of a name in its default pool, and Triton's client registers the same
names there; a process may well use that client and serve.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from exitkit.serve.rpc.messages import CHOICES, ENUMS, MESSAGES, Fields

Field, Table = descriptor_pb2.FieldDescriptorProto, descriptor_pb2.DescriptorProto
PACKAGE = "inference"
SCALARS = ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")


def build(pool: descriptor_pool.DescriptorPool) -> dict[str, type[Any]]:  # Any: made at run time
    """Add the messages to a pool and return their classes by name."""
    file = descriptor_pb2.FileDescriptorProto(
        name="exitkit/inference.proto", package=PACKAGE, syntax="proto3"
    )
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    tables: dict[str, Table] = {}
    for name, fields in MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        beside = tables[outer].nested_type if outer else file.message_type
        tables[name] = beside.add(name=inner)
        _fill(tables[name], name, fields)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
    }


def _fill(table: Table, name: str, fields: Fields) -> None:
    if name in CHOICES:
        table.oneof_decl.add(name=CHOICES[name])
    for field_name, (text, number) in fields.items():
        label, _, kind = text.rpartition(" ")
        field = table.field.add(name=field_name, number=number, label=Field.LABEL_OPTIONAL)
        if name in CHOICES:
            field.oneof_index = 0
        if label:
            field.label = Field.LABEL_REPEATED
        if label == "map":
            kind = f"{name}.{_entry(table, field_name, kind)}"
        _set_type(field, kind)


def _entry(table: Table, field_name: str, kind: str) -> str:
    """Add what a map from strings is on the wire: a repeated message of keys and values."""
    name = "".join(word.title() for word in field_name.split("_")) + "Entry"
    entry = table.nested_type.add(name=name)
    entry.options.map_entry = True
    for number, (key, type_) in enumerate((("key", "string"), ("value", kind)), start=1):
        _set_type(entry.field.add(name=key, number=number, label=Field.LABEL_OPTIONAL), type_)
    return name


def _set_type(field: Field, kind: str) -> None:
    if kind in SCALARS:
        field.type = Field.Type.Value(f"TYPE_{kind.upper()}")
        return
    field.type = Field.TYPE_ENUM if kind in ENUMS else Field.TYPE_MESSAGE
    field.type_name = f".{PACKAGE}.{kind}"


CLASSES: dict[str, type[Message]] = build(descriptor_pool.DescriptorPool())
