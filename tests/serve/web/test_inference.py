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


def test_the_server_its_health_and_its_model_are_described(url: str) -> None:
    server = httpx.get(f"{url}/v2").json()
    assert server["name"] == "exitkit"
    assert server["extensions"] == []
    assert httpx.get(f"{url}/v2/health/live").json() == {"live": True}
    assert httpx.get(f"{url}/v2/health/ready").json() == {"live": True, "ready": True}
    for version in ("", "/versions/1"):
        model = httpx.get(f"{url}/v2/models/colours{version}").json()
        assert (model["name"], model["versions"]) == ("colours", ["1"])
        assert model["platform"] == "onnx_onnxv1"
        assert model["inputs"][0]["shape"] == [-1, 3, 32, 32]
        assert model["properties"]["macs"] == "[1000,3000]"
        ready = httpx.get(f"{url}/v2/models/colours{version}/ready").json()
        assert ready == {"name": "colours", "ready": True}


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/colours/versions/2"])
@pytest.mark.parametrize("end", ["", "/ready", "/infer"])
def test_an_unknown_model_or_version_is_404(url: str, path: str, end: str) -> None:
    verb = httpx.post if end == "/infer" else httpx.get
    response = verb(url + path + end)
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
