"""Triton's own HTTP client against the real server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from exitkit.serve import server

MODEL = "colours"
COLOURS = ((255, 0, 0), (120, 140, 130), (0, 0, 255))
OUTPUTS = ("probabilities", "exit_index", "confidence", "label", "compute")
Paint = Callable[..., bytes]


@pytest.fixture(scope="module")
def client(colours: Path) -> Iterator[triton.InferenceServerClient]:
    """Return a client of a server that no other file's tests ask."""
    with (
        server(colours, threads=1) as url,
        triton.InferenceServerClient(url.removeprefix("http://"), concurrency=4) as made,
    ):
        yield made


def images() -> np.ndarray:
    """Return the images of COLOURS as the network sees them, float32 [3, 3, 32, 32]."""
    means = (np.asarray(COLOURS, dtype=np.float32) / 255 - 0.5) / 0.25
    return np.broadcast_to(means[:, :, None, None], (3, 3, 32, 32)).astype(np.float32)


def tensor(array: np.ndarray, name: str = "images", binary: bool = True) -> triton.InferInput:
    datatype = {"f": "FP32", "u": "UINT8", "O": "BYTES"}[array.dtype.kind]
    made = triton.InferInput(name, list(array.shape), datatype)
    return made.set_data_from_numpy(array, binary_data=binary)


def wanted(*names: str, binary: bool = True) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def texts(result: triton.InferResult, name: str) -> list[str]:
    """Return the elements of BYTES, which the client leaves as text where they came in JSON."""
    elements = result.as_numpy(name).ravel().tolist()
    return [one if isinstance(one, str) else one.decode() for one in elements]


def check(result: triton.InferResult) -> None:
    assert texts(result, "label") == ["red", "green", "blue"]
    assert result.as_numpy("exit_index").tolist() == [2, 4, 2]
    assert result.as_numpy("probabilities").shape == (3, 3)
    np.testing.assert_allclose(result.as_numpy("compute"), [0.2, 0.6, 0.2], rtol=1e-6)
    best = result.as_numpy("probabilities").max(axis=1)
    np.testing.assert_array_equal(result.as_numpy("confidence"), best)


def test_the_server_and_the_model_are_live_and_ready(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready("other")


def test_metadata_and_configuration(client: triton.InferenceServerClient) -> None:
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata(MODEL, "1")
    assert [row["name"] for row in metadata["outputs"]] == list(OUTPUTS)
    config = client.get_model_config(MODEL)
    assert [row["name"] for row in config["output"]] == list(OUTPUTS)
    assert config["max_batch_size"] == 256


@pytest.mark.parametrize("inputs", [True, False])
@pytest.mark.parametrize("outputs", [True, False, None])
def test_tensors_in_binary_and_in_json(
    client: triton.InferenceServerClient, inputs: bool, outputs: bool | None
) -> None:
    names = None if outputs is None else wanted(*OUTPUTS, binary=outputs)
    result = client.infer(
        MODEL, [tensor(images(), binary=inputs)], outputs=names, request_id="seven"
    )
    check(result)
    assert result.get_response()["id"] == "seven"


def test_pixels_and_files(client: triton.InferenceServerClient, paint: Paint) -> None:
    pixels = np.asarray(COLOURS, dtype=np.uint8)[:, :, None, None]
    pixels = np.broadcast_to(pixels, (3, 3, 32, 32))
    check(client.infer(MODEL, [tensor(pixels)]))
    check(client.infer(MODEL, [tensor(pixels, binary=False)]))
    files = np.asarray([paint(*colour) for colour in COLOURS], dtype=object)
    check(client.infer(MODEL, [tensor(files)]))


@pytest.mark.parametrize("request_", ["gzip", "deflate", None])
@pytest.mark.parametrize("response", ["gzip", "deflate", None])
def test_compression(
    client: triton.InferenceServerClient, request_: str | None, response: str | None
) -> None:
    many = np.concatenate([images()] * 40)
    result = client.infer(
        MODEL,
        [tensor(many)],
        request_compression_algorithm=request_,
        response_compression_algorithm=response,
    )
    assert result.as_numpy("label").tolist() == [b"red", b"green", b"blue"] * 40


def test_requests_at_the_same_time_are_not_mixed(client: triton.InferenceServerClient) -> None:
    rows = images()
    running = [
        client.async_infer(MODEL, [tensor(rows[k % 3 : k % 3 + 1])], request_id=str(k))
        for k in range(30)
    ]
    for k, one in enumerate(running):
        result = one.get_result()
        assert result.get_response()["id"] == str(k)
        assert result.as_numpy("label").tolist() == [(b"red", b"green", b"blue")[k % 3]]


def test_parameters_thresholds_and_deadlines(client: triton.InferenceServerClient) -> None:
    def exits(*more: triton.InferInput, **wishes: object) -> list[int]:
        result = client.infer(MODEL, [tensor(images()), *more], **wishes)
        return result.as_numpy("exit_index").tolist()

    assert exits(parameters={"threshold": 1.0}) == [4, 4, 4]
    assert exits(parameters={"threshold": 1.0, "max_exit": 2}) == [2, 2, 2]
    each = np.asarray([[1.0], [0.0], [0.9]], dtype=np.float32)
    assert exits(tensor(each, "threshold")) == [4, 2, 2]
    assert exits(timeout=10_000_000) == [2, 4, 2]
    with pytest.raises(InferenceServerException, match="no exit had answered in time") as late:
        exits(timeout=1)
    assert late.value.status() == "504"
    with pytest.raises(InferenceServerException, match="parameter priority: not offered") as no:
        exits(priority=1)
    assert no.value.status() == "400"


@pytest.mark.parametrize("binary", [True, False])
def test_the_likeliest_classes(client: triton.InferenceServerClient, binary: bool) -> None:
    output = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
    result = client.infer(MODEL, [tensor(images())], outputs=[output])
    assert result.as_numpy("probabilities").shape == (3, 2)
    best = texts(result, "probabilities")[::2]
    assert [text.split(":")[1:] for text in best] == [
        ["0", "red"], ["1", "green"], ["2", "blue"],
    ]  # fmt: skip


def test_statistics(client: triton.InferenceServerClient) -> None:
    def counts() -> tuple[int, int]:
        rows = client.get_inference_statistics(MODEL)["model_stats"]
        row = next(row for row in rows if row["name"] == MODEL)
        return row["inference_count"], row["inference_stats"]["success"]["count"]

    images_before, requests_before = counts()
    client.infer(MODEL, [tensor(images())])
    assert counts() == (images_before + 3, requests_before + 1)
    everything = client.get_inference_statistics()["model_stats"]
    assert {row["name"] for row in everything} >= {MODEL, f"{MODEL}/stage2", f"{MODEL}/stage4"}


def test_the_repository(client: triton.InferenceServerClient) -> None:
    def loaded() -> list[str]:
        index = client.get_model_repository_index()
        return [row["name"] for row in index if row["state"] == "READY"]

    assert loaded() == [MODEL]
    client.load_model(MODEL)  # anew
    check(client.infer(MODEL, [tensor(images())]))
    assert loaded() == [MODEL]
    with pytest.raises(InferenceServerException, match="model 'other': not here"):
        client.load_model("other")
    with pytest.raises(InferenceServerException, match="is loaded as its bundle says"):
        client.load_model(MODEL, config='{"max_batch_size": 1}')
    client.unload_model(MODEL)
    assert not client.is_model_ready(MODEL)
    with pytest.raises(InferenceServerException, match="unloaded") as unloaded:
        client.infer(MODEL, [tensor(images())])
    assert unloaded.value.status() == "503"
    client.load_model(MODEL)
    check(client.infer(MODEL, [tensor(images())]))


def test_errors_reach_the_client_in_words(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="model 'other': not here") as unknown:
        client.infer("other", [tensor(images())])
    assert unknown.value.status() == "404"
    with pytest.raises(InferenceServerException, match=r"images is FP32 \[n, 3, 32, 32\]"):
        client.infer(MODEL, [tensor(images()[:, :, :16])])
    with pytest.raises(InferenceServerException, match="no such output"):
        client.infer(MODEL, [tensor(images())], outputs=wanted("logits"))
    with pytest.raises(InferenceServerException, match="beyond 1000"):
        client.infer(MODEL, [tensor(images() * np.float32(np.nan))])
