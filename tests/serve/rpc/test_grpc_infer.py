"""Inference over gRPC, by Triton's client and by a plain one: the answers are HTTP's."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from calling import BLUE, RED, Address, images, tensor, unary
from tritonclient.utils import InferenceServerException

from exitkit.serve.rpc.descriptors import CLASSES

Paint = Callable[..., bytes]
BOTH = images(RED, BLUE)
OUTPUTS = ("probabilities", "exit_index", "confidence", "label", "compute")


def over_http(both: Address, **parameters: Any) -> dict[str, Any]:
    """Return the answer to the same images over HTTP, each output by its name."""
    table = {"name": "images", "shape": BOTH.shape, "datatype": "FP32", "data": BOTH.tolist()}
    body = {"id": "a1", "inputs": [table], "parameters": parameters}
    answer = httpx.post(f"{both.http}/v2/models/colours/infer", json=body).json()
    return answer | {row["name"]: row for row in answer["outputs"]}


def test_an_answer_is_the_one_over_http(both: Address, client: Any) -> None:
    found = client.infer("colours", [tensor(BOTH)], request_id="a1")
    same = over_http(both)
    response = found.get_response()
    assert (response.id, response.model_name, response.model_version) == ("a1", "colours", "1")
    assert [row.name for row in response.outputs] == [row["name"] for row in same["outputs"]]
    for row in response.outputs:
        table = same[row.name]
        assert (row.datatype, list(row.shape)) == (table["datatype"], table["shape"])
        values = found.as_numpy(row.name).ravel()
        if row.datatype == "BYTES":
            assert [value.decode() for value in values] == table["data"]
        else:  # JSON has the same numbers, in the fewest digits
            assert values.tolist() == np.asarray(table["data"], values.dtype).tolist()
    assert found.as_numpy("label").tolist() == [b"red", b"blue"]
    assert found.as_numpy("exit_index").tolist() == [2, 4]
    cost = {k: getattr(v, v.WhichOneof("parameter_choice")) for k, v in response.parameters.items()}
    assert set(cost) == set(same["parameters"])
    assert {k: cost[k] for k in ("mean_exit", "macs_fraction", "deadline_hit")} == {
        k: same["parameters"][k] for k in ("mean_exit", "macs_fraction", "deadline_hit")
    }


@pytest.mark.parametrize(
    ("parameters", "exits"),
    [
        ({"threshold": 1.0}, [4, 4]),
        ({"threshold": 0.0}, [2, 2]),
        ({"threshold": 0}, [2, 2]),
        ({"threshold": "0.6"}, [2, 4]),
        ({"max_exit": 2}, [2, 2]),
        ({"deadline_ms": 60_000}, [2, 4]),
    ],
)
def test_parameters_of_every_kind_mean_what_they_mean_over_http(
    both: Address, client: Any, parameters: dict[str, Any], exits: list[int]
) -> None:
    found = client.infer("colours", [tensor(BOTH)], parameters=parameters)
    assert found.as_numpy("exit_index").tolist() == exits
    assert over_http(both, **parameters)["exit_index"]["data"] == exits


def test_thresholds_of_single_images_come_as_a_tensor(client: Any) -> None:
    each = tensor(np.asarray([[1.0], [0.0]], np.float32), "threshold")
    found = client.infer("colours", [tensor(BOTH), each])
    assert found.as_numpy("exit_index").tolist() == [4, 2]


def test_outputs_come_in_the_order_asked_for(client: Any) -> None:
    wanted = [
        triton.InferRequestedOutput("label"),
        triton.InferRequestedOutput("probabilities", class_count=2),
    ]
    found = client.infer("colours", [tensor(BOTH)], outputs=wanted)
    assert [row.name for row in found.get_response().outputs] == ["label", "probabilities"]
    best = found.as_numpy("probabilities")
    assert [text.decode().split(":")[1:] for text in best[:, 0]] == [["0", "red"], ["2", "blue"]]


def test_image_files_come_as_bytes(client: Any, paint: Paint) -> None:
    files = np.asarray([paint(255, 0, 0), paint(0, 0, 255, "JPEG", 48)], object)
    found = client.infer("colours", [tensor(files, datatype="BYTES")])
    assert found.as_numpy("label").tolist() == [b"red", b"blue"]


def test_pixels_come_as_uint8(client: Any) -> None:
    pixels = np.zeros((1, 3, 32, 32), np.uint8)
    pixels[0, 1] = 255
    found = client.infer("colours", [tensor(pixels, datatype="UINT8")])
    assert found.as_numpy("label").tolist() == [b"green"]


def typed(datatype: str, field: str, values: Any, shape: tuple[int, ...]) -> Any:
    request: Any = CLASSES["ModelInferRequest"](model_name="colours")
    row = request.inputs.add(name="images", datatype=datatype, shape=shape)
    getattr(row.contents, field).extend(values)
    return request


def test_a_plain_client_may_send_typed_contents_and_gets_them(channel: grpc.Channel) -> None:
    request = typed("FP32", "fp32_contents", BOTH.ravel().tolist(), BOTH.shape)
    answer = unary(channel, "ModelInfer", request)
    assert not answer.raw_output_contents
    rows = {row.name: row for row in answer.outputs}
    assert list(rows["label"].contents.bytes_contents) == [b"red", b"blue"]
    assert list(rows["exit_index"].contents.int64_contents) == [2, 4]
    raw: Any = CLASSES["ModelInferRequest"](model_name="colours")
    raw.inputs.add(name="images", datatype="FP32", shape=BOTH.shape)
    raw.raw_input_contents.append(BOTH.tobytes())
    again = unary(channel, "ModelInfer", raw)
    assert [row.name for row in again.outputs] == list(rows)
    assert not any(row.HasField("contents") for row in again.outputs)
    probabilities = list(rows["probabilities"].contents.fp32_contents)
    assert again.raw_output_contents[0] == np.asarray(probabilities, "<f4").tobytes()


def test_typed_pixels_and_files_are_taken(channel: grpc.Channel, paint: Paint) -> None:
    request = typed("BYTES", "bytes_contents", [paint(0, 0, 255)], (1,))
    answer = unary(channel, "ModelInfer", request)
    label = next(row for row in answer.outputs if row.name == "label")
    assert list(label.contents.bytes_contents) == [b"blue"]
    pixels = np.zeros((1, 3, 32, 32), int)
    pixels[0, 1] = 255
    request = typed("UINT8", "uint_contents", pixels.ravel().tolist(), pixels.shape)
    answer = unary(channel, "ModelInfer", request)
    label = next(row for row in answer.outputs if row.name == "label")
    assert list(label.contents.bytes_contents) == [b"green"]


def test_the_first_model_answers_where_none_is_named(channel: grpc.Channel) -> None:
    request = typed("FP32", "fp32_contents", BOTH.ravel().tolist(), BOTH.shape)
    request.model_name = ""
    assert unary(channel, "ModelInfer", request).model_name == "colours"


def test_many_calls_at_once_get_their_own_answers(client: Any) -> None:
    done, found = threading.Semaphore(0), {}

    def callback(key: str, result: Any, error: InferenceServerException | None) -> None:
        found[key] = error or result.as_numpy("label").tolist()
        done.release()

    colours = {"red": RED, "blue": BLUE}
    for k in range(40):
        name = ("red", "blue")[k % 2]
        client.async_infer(
            "colours",
            [tensor(images(*[colours[name]] * (1 + k % 3)))],
            lambda result, error, key=f"{name} {k}": callback(key, result, error),
        )
    for _ in range(40):
        assert done.acquire(timeout=30)
    for key, labels in found.items():
        name, k = key.split()
        assert labels == [name.encode()] * (1 + int(k) % 3)


def test_the_asynchronous_client_is_answered(both: Address) -> None:
    async def ask() -> list[bytes]:
        async with triton_aio.InferenceServerClient(both.grpc) as client:
            found = await asyncio.gather(
                *(client.infer("colours", [tensor(images(c))]) for c in (RED, BLUE))
            )
            return [answer.as_numpy("label")[0] for answer in found]

    assert asyncio.run(ask()) == [b"red", b"blue"]
