"""The messages are those that are published: Triton's client has the same descriptors."""

from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from exitkit.serve.rpc.descriptors import CLASSES
from exitkit.serve.rpc.messages import CHOICES, ENUMS, MESSAGES

# Only in the Open Inference Protocol's own file.
NOT_TRITONS = {"ModelMetadataResponse": {"properties": 6}}
# Of Triton's configuration only what is filled; everything else is there in full.
PARTS = {
    "ModelInput", "ModelOutput", "ModelVersionPolicy", "ModelDynamicBatching", "ModelConfig",
}  # fmt: skip
Shape = dict[str, tuple[int, str, str]]


def published(name: str) -> Any:
    pool = service_pb2.DESCRIPTOR.pool
    assert model_config_pb2.DESCRIPTOR.pool is pool
    return pool.FindMessageTypeByName(f"inference.{name}")


def shape(descriptor: Any) -> Shape:
    """Return number, type and label of every field, and what it holds."""
    found = {}
    for field in descriptor.fields:
        kind = field.message_type or field.enum_type
        name = kind.full_name if kind else str(field.type)
        if field.type == field.TYPE_MESSAGE and kind.GetOptions().map_entry:
            name = f"map {shape(kind)}"
        found[field.name] = (field.number, name, "repeated" if field.is_repeated else "one")
    return found


@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_is_the_published_one(name: str) -> None:
    ours, theirs = shape(CLASSES[name].DESCRIPTOR), shape(published(name))
    for field, number in NOT_TRITONS.get(name, {}).items():
        assert ours.pop(field)[0] == number
        assert number not in [row[0] for row in theirs.values()]
    assert ours.items() <= theirs.items()
    assert (ours == theirs) is (name not in PARTS)


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_the_published_ones(name: str) -> None:
    def choices(descriptor: Any) -> dict[str, list[str]]:
        return {one.name: [field.name for field in one.fields] for one in descriptor.oneofs}

    assert choices(CLASSES[name].DESCRIPTOR) == choices(published(name))


@pytest.mark.parametrize("name", ENUMS)
def test_enums_are_the_published_ones(name: str) -> None:
    values = model_config_pb2.DESCRIPTOR.enum_types_by_name[name].values
    assert [value.name for value in values] == list(ENUMS[name])
    assert [value.number for value in values] == list(range(len(values)))


def test_what_one_writes_the_other_reads() -> None:
    theirs = service_pb2.ModelInferRequest(model_name="colours", id="a1")
    theirs.parameters["threshold"].double_param = 0.5
    theirs.parameters["max_exit"].int64_param = 2
    image = theirs.inputs.add(name="images", datatype="UINT8", shape=[1, 2])
    image.contents.uint_contents.extend([1, 255])
    theirs.raw_input_contents.append(b"\x00\xff")
    ours: Any = CLASSES["ModelInferRequest"].FromString(theirs.SerializeToString())
    assert ours.parameters["threshold"].WhichOneof("parameter_choice") == "double_param"
    assert list(ours.inputs[0].contents.uint_contents) == [1, 255]
    again = service_pb2.ModelInferRequest.FromString(ours.SerializeToString())
    assert again == theirs
