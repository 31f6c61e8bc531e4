"""What is refused over gRPC: the codes, what follows them, and that the server goes on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from calling import BLUE, RED, SERVICE, Address, images, serve, unary
from tritonclient.utils import InferenceServerException
from waiting import wait_for

from exitkit.errors import RequestError
from exitkit.serve.limits import Limits
from exitkit.serve.rpc.descriptors import CLASSES
from exitkit.serve.rpc.refusals import CODES

ONE = images(RED)
Message = Any


def request(**fields: Any) -> Message:
    return CLASSES["ModelInferRequest"](model_name="colours", **fields)


def raw(array: Any = ONE, datatype: str = "FP32", **fields: Any) -> Message:
    found: Any = request(**fields)
    found.inputs.add(name="images", datatype=datatype, shape=array.shape)
    found.raw_input_contents.append(array.tobytes())
    return found


def twice() -> Message:
    found = raw()
    found.raw_input_contents.append(b"")
    return found


def both_forms() -> Message:
    found = raw()
    found.inputs[0].contents.fp32_contents.append(1.0)
    return found


def typed(datatype: str, field: str, *values: Any, shape: tuple[int, ...] = (1,)) -> Message:
    found: Any = request()
    row = found.inputs.add(name="images", datatype=datatype, shape=shape)
    getattr(row.contents, field).extend(values)
    return found


def with_parameter(name: str, **value: Any) -> Message:
    found = raw()
    found.parameters[name].CopyFrom(CLASSES["InferParameter"](**value))
    return found


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (request(), "inputs: hold no images"),
        (twice(), "raw_input_contents: holds 2 tensors, inputs 1"),
        (both_forms(), "input 'images': has contents and raw_input_contents"),
        (raw(ONE[0]), "shape \\[3, 32, 32\\]"),
        (raw(ONE, "FP16"), "12288 bytes, FP16 \\[1, 3, 32, 32\\] has 6144"),
        (raw(ONE, "FLOAT"), "datatype 'FLOAT': no such datatype"),
        (raw(np.full_like(ONE, np.nan)), "holds numbers beyond"),
        (typed("FP32", "fp32_contents", shape=(-1, 3)), "shape \\[-1, 3\\]: is no list of sizes"),
        (typed("FP32", "fp32_contents", 1.0, 2.0), "2 values, FP32 \\[1\\] has 1"),
        (typed("FP32", "fp64_contents", 1.0), "are in fp64_contents; FP32 belongs into fp32"),
        (typed("FP16", "fp32_contents", 1.0), "FP16 has no field there"),
        (typed("UINT8", "uint_contents", 256), "no whole number from 0 to 255"),
        (typed("BYTES", "bytes_contents", b"no image"), "cannot be decoded"),
        (with_parameter("threshold", double_param=1.5), "threshold 1.5"),
        (with_parameter("threshold", bool_param=True), "threshold True"),
        (with_parameter("threshold"), "parameter 'threshold': has no value"),
        (with_parameter("max_exit", uint64_param=3), "max_exit 3: no such exit"),
        (with_parameter("nonsense", string_param="x"), "parameter 'nonsense'"),
    ],
)
def test_what_cannot_be_understood_is_an_invalid_argument(
    channel: grpc.Channel, message: Message, says: str
) -> None:
    with pytest.raises(grpc.RpcError, match=says) as caught:
        unary(channel, "ModelInfer", message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x0a\x05x", b"\x2a\x03\x08\x01"])
def test_bytes_that_are_no_message_are_an_invalid_argument(
    channel: grpc.Channel, body: bytes
) -> None:
    with pytest.raises(grpc.RpcError, match=r"is no inference\.ModelInferRequest") as caught:
        channel.unary_unary(SERVICE + "ModelInfer")(body, timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_call_without_a_message_is_an_invalid_argument(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError, match="the call has none") as caught:
        channel.stream_unary(SERVICE + "ModelInfer")(iter(()), timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_models_versions_and_methods_are_told_apart(channel: grpc.Channel) -> None:
    for message in (raw(model_version="2"), CLASSES["ModelInferRequest"](model_name="other")):
        with pytest.raises(grpc.RpcError, match="not here") as caught:
            unary(channel, "ModelInfer", message)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(SERVICE + "SystemSharedMemoryStatus")(b"", timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_shared_memory_is_refused_and_not_misread(client: Any) -> None:
    one = triton.InferInput("images", [1, 3, 32, 32], "FP32")
    one.set_shared_memory("region", 12288)
    with pytest.raises(InferenceServerException) as caught:
        client.infer("colours", [one])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_every_error_has_a_code_of_its_own_kind() -> None:
    def kinds(kind: type[RequestError]) -> Iterator[type[RequestError]]:
        yield kind
        for below in kind.__subclasses__():
            yield from kinds(below)

    # Those of exitkit.serve.web never come here: 415 is of bodies, which gRPC has not.
    found = [kind for kind in kinds(RequestError) if ".web." not in kind.__module__]
    assert len(found) > 8
    assert {kind.status for kind in found} <= set(CODES)


@pytest.fixture(scope="module")
def small(colours: Path) -> Iterator[Address]:
    limits = Limits(body_bytes=100_000, samples=4, queue=4)
    with serve(colours, limits=limits, token="open-sesame") as address:
        yield address


TOKEN = (("authorization", "Bearer open-sesame"),)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ((), "brings no token"),
        ((("authorization", "Bearer other"),), "another one"),
        ((("authorization", "open-sesame"),), "brings no token"),
    ],
)
def test_without_the_token_only_health_answers(
    small: Address, metadata: tuple[tuple[str, str], ...], says: str
) -> None:
    names = {name.removesuffix("Request") for name in CLASSES if name.endswith("Request")}
    with grpc.insecure_channel(small.grpc) as channel:
        for name in names - {"ServerLive", "ServerReady"}:
            with pytest.raises(grpc.RpcError, match=says) as caught:
                unary(channel, name, CLASSES[f"{name}Request"](), metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        stream = channel.stream_stream(SERVICE + "ModelStreamInfer")
        with pytest.raises(grpc.RpcError, match=says):
            next(stream(iter([b""]), timeout=30, metadata=metadata))
        assert unary(channel, "ServerReady", CLASSES["ServerReadyRequest"]()).ready
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30) == b"\x08\x01"


def test_who_has_no_token_is_refused_before_the_message_is_read(small: Address) -> None:
    big = raw(np.zeros((20_000, 3, 32, 32), np.uint8), "UINT8")
    with grpc.insecure_channel(small.grpc) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            unary(channel, "ModelInfer", big)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as caught:
            unary(channel, "ModelInfer", big, metadata=TOKEN)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_token_opens_and_what_is_too_large_is_refused(small: Address) -> None:
    with grpc.insecure_channel(small.grpc) as channel:
        assert unary(channel, "ModelInfer", raw(), metadata=TOKEN).model_name == "colours"
        many = np.zeros((5, 3, 32, 32), np.uint8)
        with pytest.raises(grpc.RpcError, match="5 images: the limit is 4") as caught:
            unary(channel, "ModelInfer", raw(many, "UINT8"), metadata=TOKEN)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_compressed_messages_are_refused_before_they_are_unpacked(small: Address) -> None:
    message = raw(np.zeros((4, 3, 32, 32), np.uint8), "UINT8")
    with grpc.insecure_channel(small.grpc) as channel:
        with pytest.raises(grpc.RpcError, match="'gzip' is disabled") as caught:
            unary(channel, "ModelInfer", message, metadata=TOKEN, compression=grpc.Compression.Gzip)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_full_queue_says_when_to_come_again(slow: Path) -> None:
    limits = Limits(samples=16, queue=16, batch=1)
    with serve(slow, limits=limits) as both, grpc.insecure_channel(both.grpc) as channel:
        call = channel.unary_unary(SERVICE + "ModelInfer")
        many = raw(np.repeat(ONE, 16, axis=0))
        accepted = call.future(many.SerializeToString(), timeout=60)
        wait_for(lambda: httpx.get(f"{both.http}/stats").json()["queue"] > 0)
        with pytest.raises(grpc.RpcError) as caught:
            unary(channel, "ModelInfer", many)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        metadata = dict(caught.value.trailing_metadata())
        assert int(metadata["retry-after"]) >= 1
        assert accepted.result()


def test_a_failure_that_nobody_foresaw_is_internal_and_keeps_its_secrets(
    both: Address, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise ValueError("a secret")

    monkeypatch.setattr("exitkit.serve.rpc.tensors.read", fail)
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "ModelInfer", raw(), metadata=(("x-request-id", "r7"),))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error in request r7; see the server's log"
    monkeypatch.undo()
    assert unary(channel, "ModelInfer", raw(images(RED, BLUE))).model_name == "colours"


def test_the_id_of_a_request_comes_back(channel: grpc.Channel) -> None:
    call = channel.unary_unary(SERVICE + "ModelInfer").with_call
    answer, ended = call(
        raw(id="body").SerializeToString(), timeout=30, metadata=(("x-request-id", "r8"),)
    )
    assert dict(ended.trailing_metadata())["x-request-id"] == "r8"
    assert CLASSES["ModelInferResponse"].FromString(answer).id == "body"
    _, ended = call(raw(id="body").SerializeToString(), timeout=30)
    assert dict(ended.trailing_metadata())["x-request-id"] == "body"
