"""The Open Inference Protocol over HTTP, spoken by hand."""

import httpx
import numpy as np
import pytest

INFER = "/v2/models/colours/infer"


def tensor(*means: tuple[float, float, float]) -> dict:
    """Make images of one colour each, as the network sees them."""
    images = np.broadcast_to(np.asarray(means)[:, :, None, None], (len(means), 3, 32, 32))
    return {
        "name": "images",
        "datatype": "FP32",
        "shape": [len(means), 3, 32, 32],
        "data": images.ravel().tolist(),
    }


@pytest.mark.parametrize("path", [INFER, "/v2/models/colours/versions/1/infer"])
def test_a_batch_is_answered_row_by_row(url: str, path: str) -> None:
    table = {"id": "x", "inputs": [tensor((1, 0, 0), (0.1, 0, 0.2))]}
    response = httpx.post(url + path, json=table)
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert (answer["model_name"], answer["model_version"]) == ("colours", "1")
    assert answer["id"] == "x"
    outputs = {row["name"]: row for row in answer["outputs"]}
    # exit 2: logits 2 x (1, 0, 0), e^2 / (e^2 + 2) = 0.787 >= 0.6, leaves;
    # the other: e^0.4 / (e^0.4 + e^0.2 + 1) = 0.402 stays; exit 4: 8 x (0.1, 0, 0.2) / 0.5
    left = np.exp([2, 0, 0]) / np.exp([2, 0, 0]).sum()
    stayed = np.exp([1.6, 0, 3.2]) / np.exp([1.6, 0, 3.2]).sum()
    np.testing.assert_allclose(outputs["probabilities"]["data"], [*left, *stayed], rtol=1e-5)
    assert outputs["probabilities"]["shape"] == [2, 3]
    assert outputs["exit_index"]["data"] == [2, 4]
    assert outputs["exit_index"]["datatype"] == "INT64"
    np.testing.assert_allclose(outputs["confidence"]["data"], [left[0], stayed[2]], rtol=1e-5)
    assert outputs["label"]["data"] == ["red", "blue"]
    assert outputs["label"]["datatype"] == "BYTES"
    parameters = answer["parameters"]
    assert parameters["mean_exit"] == 3.0
    assert parameters["macs_fraction"] == (1000 + 3000) / 2 / 5000
    assert parameters["compute_ms"] > 0
    assert parameters["queue_ms"] >= 0
    assert parameters["deadline_hit"] is False
    assert parameters["threshold_used"] == 0.6
    np.testing.assert_allclose(outputs["compute"]["data"], [1000 / 5000, 3000 / 5000])


def test_parameters_and_outputs_are_obeyed(url: str) -> None:
    table = {
        "inputs": [tensor((1, 0, 0))],
        "parameters": {"threshold": 1.0},
        "outputs": [{"name": "exit_index"}],
    }
    answer = httpx.post(url + INFER, json=table).json()
    assert "id" not in answer
    assert [row["name"] for row in answer["outputs"]] == ["exit_index"]
    assert answer["outputs"][0]["data"] == [4]
    table["parameters"] = {"threshold": 1.0, "max_exit": 2}
    assert httpx.post(url + INFER, json=table).json()["outputs"][0]["data"] == [2]


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/colours/versions/2"])
def test_an_unknown_model_or_version_is_404(url: str, path: str) -> None:
    response = httpx.post(f"{url}{path}/infer")
    assert response.status_code == 404
    assert "not here" in response.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"inputs": 3}', b"\x00" * 100])
def test_a_wrong_body_is_400_with_an_error(url: str, body: bytes) -> None:
    response = httpx.post(url + INFER, content=body)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]


def test_a_large_body_is_parsed_beside_the_loop(url: str) -> None:
    answer = httpx.post(url + INFER, json={"inputs": [tensor(*[(0, 1, 0)] * 40)]}).json()
    assert answer["outputs"][3]["data"] == ["green"] * 40


def ask(url: str, change: dict, **parameters: object) -> httpx.Response:
    """Ask with one image whose tensor is changed, or with other fields or parameters."""
    table = {"inputs": [tensor((1, 0, 0))], "parameters": parameters, **change}
    return httpx.post(url + INFER, json=table)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "image"}, "input 'image': no such input; send images or threshold"),
        ({"datatype": "FP64"}, "datatype FP64: images is FP32 or UINT8, or BYTES with image files"),
        ({"datatype": "INT8", "data": [1] * 3072}, "images is FP32 or UINT8"),
        ({"shape": [1, 3, 16, 64]}, "shape [1, 3, 16, 64]: images is FP32 [n, 3, 32, 32]"),
        ({"shape": [0, 3, 32, 32], "data": []}, "n is 1 or more"),
        ({"shape": [3072]}, "images is FP32 [n, 3, 32, 32]"),
        ({"shape": [], "data": [1]}, "images is FP32 [n, 3, 32, 32]"),
        ({"data": [1001] * 3072}, "images: holds numbers beyond 1000; normalise pixels"),
        ({"data": [0] * 3071 + [1e39]}, "holds numbers beyond 1000"),
        ({"parameters": {"colour": "grey"}}, "input parameters ['colour']: not offered here"),
        ({"datatype": "BYTES", "shape": [1, 1], "data": ["x"]}, "images is BYTES [n]"),
        ({"datatype": "BYTES", "shape": [1], "data": ["x"]}, "image of 1 bytes: cannot be decoded"),
        (
            {"datatype": "BYTES", "shape": [2], "data": ["x", "y"]},
            "file 1 of 2, image of 1 bytes: cannot be decoded",
        ),
    ],
)
def test_a_tensor_that_the_model_does_not_take_is_refused(
    url: str, change: dict, says: str
) -> None:
    response = ask(url, {"inputs": [{**tensor((1, 0, 0)), **change}]})
    assert response.status_code == 400
    assert says in response.json()["error"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"inputs": [tensor((1, 0, 0))] * 2}, "input images: stands there twice"),
        ({"parameters": {"treshold": 1}}, "parameter 'treshold': no such parameter"),
        ({"parameters": {"threshold": 1.5}}, "threshold 1.5: is no number from 0 to 1"),
        ({"parameters": {"threshold": True}}, "threshold True: is no number from 0 to 1"),
        ({"parameters": {"max_exit": 3}}, "max_exit 3: no such exit; choose one of: 2, 4"),
        ({"parameters": {"max_exit": 10**15}}, "no such exit"),
        ({"parameters": {"deadline_ms": 0}}, "deadline_ms 0: is no number of milliseconds"),
        ({"parameters": {"timeout": -1}}, "timeout -1: is no number of microseconds"),
        ({"parameters": {"timeout": "5"}}, "timeout '5': is no number of microseconds"),
        ({"parameters": {"timeout": 9, "deadline_ms": 9}}, "timeout and deadline_ms: both"),
        ({"parameters": {"priority": 1}}, "parameter priority: not offered here; requests go by"),
        ({"parameters": {"sequence_id": 7}}, "parameter sequence_id: not offered here; there are"),
        ({"parameters": {"triton_x": 7}}, "parameter 'triton_x': no such parameter"),
        ({"outputs": [{"name": "logits"}]}, "output 'logits': no such output; choose from: prob"),
        ({"outputs": [{"name": "label"}] * 2}, "outputs: label stands there twice"),
        (
            {"outputs": [{"name": "label", "parameters": {"classification": 1}}]},
            "parameter 'classification' of output label: not offered here",
        ),
        (
            {"outputs": [{"name": "probabilities", "parameters": {"classification": 4}}]},
            "classification 4: there are 3 classes; give 1 to 3",
        ),
        (
            {"outputs": [{"name": "probabilities", "parameters": {"classification": 1.0}}]},
            "classification 1.0: there are 3 classes",
        ),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(url: str, change: dict, says: str) -> None:
    response = ask(url, change)
    assert response.status_code == 400
    assert says in response.json()["error"]


def test_more_images_than_the_limit_are_413(url: str) -> None:
    table = tensor((1, 0, 0))
    few = {**table, "shape": [257, 3, 32, 32], "data": [0] * 257 * 3072}
    response = ask(url, {"inputs": [few]})
    assert response.status_code == 413
    assert "257 images: the limit is 256 a request" in response.json()["error"]


def exits(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return next(r["data"] for r in response.json()["outputs"] if r["name"] == "exit_index")


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_each_image_may_have_its_own_threshold(url: str, shape: list[int]) -> None:
    thresholds = {"name": "threshold", "datatype": "FP32", "shape": shape, "data": [0.9, 0.7, 0.2]}
    images = tensor((1, 0, 0), (1, 0, 0), (0.1, 0, 0.2))  # 0.787 sure at exit 2, and 0.402
    response = ask(url, {"inputs": [images, thresholds]})
    assert exits(response) == [4, 2, 2]
    assert "threshold_used" not in response.json()["parameters"]
    same = {**thresholds, "data": [0.5] * 3}
    assert ask(url, {"inputs": [same, images]}).json()["parameters"]["threshold_used"] == 0.5


@pytest.mark.parametrize(
    ("change", "parameters", "says"),
    [
        ({"shape": [2], "data": [0.5, 0.5]}, {}, "2 thresholds: there are 1 images"),
        ({"shape": [1, 2], "data": [0.5, 0.5]}, {}, "it is FP32 [n, 1] or [n]"),
        ({"shape": [], "data": [0.5]}, {}, "it is FP32 [n, 1] or [n]"),
        ({"datatype": "FP64"}, {}, "threshold FP64 [1]: it is FP32"),
        ({"data": [1.5]}, {}, "threshold 1.5: is no number from 0 to 1"),
        ({}, {"threshold": 0.5}, "threshold: is a parameter and a tensor"),
    ],
)
def test_wrong_thresholds_of_images_are_refused(
    url: str, change: dict, parameters: dict, says: str
) -> None:
    one = {"name": "threshold", "datatype": "FP32", "shape": [1], "data": [0.5], **change}
    response = ask(url, {"inputs": [tensor((1, 0, 0)), one]}, **parameters)
    assert response.status_code == 400
    assert says in response.json()["error"]


def test_a_timeout_in_microseconds_is_a_deadline(url: str) -> None:
    assert ask(url, {}, timeout=1).status_code == 504
    assert ask(url, {}, deadline_ms=1e-3).status_code == 504
    for none in ({"timeout": 0}, {"timeout": 10**10}, {"deadline_ms": 1e7}):
        assert exits(ask(url, {}, **none)) == [2]
    assert exits(ask(url, {}, timeout=0, deadline_ms=1e7)) == [2]


def test_what_load_generators_send_with_every_request_changes_nothing(url: str) -> None:
    assert exits(ask(url, {}, triton_enable_empty_final_response=True)) == [2]


def test_the_likeliest_classes_come_as_text(url: str) -> None:
    wanted = [{"name": "probabilities", "parameters": {"classification": 2}}]
    (output,) = ask(url, {"inputs": [tensor((1, 0.2, 0), (0, 0, 1))], "outputs": wanted}).json()[
        "outputs"
    ]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    # exit 2: logits 2 x (1, 0.2, 0) and 2 x (0, 0, 1); of equal ones the first comes first
    sums = np.exp([2, 0.4, 0]).sum(), np.exp([2, 0, 0]).sum()
    found = [text.split(":", 1) for text in output["data"]]
    assert [rest for _, rest in found] == ["0:red", "1:green", "2:blue", "0:red"]
    assert all(len(value) == len("0.747814") for value, _ in found)
    expected = np.exp([2, 0.4, 2, 0]) / np.repeat(sums, 2)
    np.testing.assert_allclose([float(value) for value, _ in found], expected, atol=2e-6)
