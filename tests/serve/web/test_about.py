"""The server, its health, and what its model is and has done."""

import httpx
import numpy as np
import pytest

INFER = "/v2/models/colours/infer"
MODEL = ["/v2/models/colours", "/v2/models/colours/versions/1"]


def images(*means: tuple[float, float, float]) -> dict:
    """Ask for images of one colour each, as the network sees them."""
    array = np.broadcast_to(np.asarray(means)[:, :, None, None], (len(means), 3, 32, 32))
    data = array.ravel().tolist()
    shape = list(array.shape)
    return {"inputs": [{"name": "images", "datatype": "FP32", "shape": shape, "data": data}]}


def test_the_server_names_what_it_speaks(url: str) -> None:
    server = httpx.get(f"{url}/v2").json()
    assert server["name"] == "exitkit"
    assert server["extensions"] == [
        "binary_tensor_data", "classification", "model_configuration", "model_repository",
        "parameters", "statistics",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"live": True, "ready": True}),
        ("/v2/models/colours/ready", {"name": "colours", "ready": True}),
        ("/v2/models/colours/versions/1/ready", {"name": "colours", "ready": True}),
    ],
)
def test_probes_may_ask_with_get_or_head(url: str, path: str, body: dict) -> None:
    got, headed = httpx.get(url + path), httpx.head(url + path)
    assert (got.status_code, got.json()) == (200, body)
    assert headed.status_code == 200
    assert headed.content == b""
    assert headed.headers["content-length"] == got.headers["content-length"]


def test_a_head_for_an_unknown_model_is_404(url: str) -> None:
    assert httpx.head(f"{url}/v2/models/other/ready").status_code == 404


@pytest.mark.parametrize("path", MODEL)
def test_metadata_says_all_that_a_client_needs(url: str, path: str) -> None:
    table = httpx.get(url + path).json()
    assert (table["name"], table["versions"]) == ("colours", ["1"])
    assert table["platform"] == "onnx_onnxv1"
    assert table["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, 3, 32, 32]}]
    assert table["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "exit_index", "datatype": "INT64", "shape": [-1]},
        {"name": "confidence", "datatype": "FP32", "shape": [-1]},
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "compute", "datatype": "FP32", "shape": [-1]},
    ]
    assert table["properties"] == {
        "exits": "[2,4]",
        "macs": "[1000,3000]",
        "plain_macs": "5000",
        "thresholds": "[0.6]",
        "classes": '["red","green","blue"]',
        "mean": "[0.5,0.5,0.5]",
        "std": "[0.25,0.25,0.25]",
        "also": '[{"name":"images","datatype":"UINT8","shape":[-1,3,32,32]},'
        '{"name":"images","datatype":"BYTES","shape":[-1]},'
        '{"name":"threshold","datatype":"FP32","shape":[-1,1]}]',
    }


@pytest.mark.parametrize("path", MODEL)
def test_the_configuration_names_the_tensors_of_the_metadata(url: str, path: str) -> None:
    config = httpx.get(f"{url}{path}/config").json()
    metadata = httpx.get(url + path).json()
    assert config["name"] == "colours"
    assert config["max_batch_size"] == 256  # images that one request may have
    assert config["model_transaction_policy"] == {"decoupled": False}
    assert config["response_cache"] == {"enable": False}
    assert "dynamic_batching" in config
    assert config["input"] == [
        {"name": "images", "data_type": "TYPE_FP32", "dims": [3, 32, 32], "optional": False}
    ]
    for kind in ("input", "output"):
        for one, other in zip(config[kind], metadata[f"{kind}s"], strict=True):
            assert one["name"] == other["name"]
            assert one["data_type"][5:].replace("STRING", "BYTES") == other["datatype"]
            assert one.get("reshape", {"shape": one["dims"]})["shape"] == other["shape"][1:]


def entries(url: str, path: str) -> dict[str, dict]:
    return {row["name"]: row for row in httpx.get(url + path).json()["model_stats"]}


@pytest.mark.parametrize("path", ["/v2/models", *MODEL])
def test_statistics_count_images_and_batches_by_stage(url: str, path: str) -> None:
    names = ["colours", "colours/stage2", "colours/stage4"]
    before = entries(url, f"{path}/stats")
    # Two leave at exit 2, one goes on to exit 4; they are one batch at each stage.
    asked = images((1, 0, 0), (0, 1, 0), (0.1, 0, 0.2))
    assert httpx.post(url + INFER, json=asked).status_code == 200
    after = entries(url, f"{path}/stats")
    assert list(after) == names
    for name, count, runs in zip(names, (3, 3, 1), (1, 1, 1), strict=True):
        assert after[name]["version"] == "1"
        assert after[name]["inference_count"] - before[name]["inference_count"] == count
        assert after[name]["execution_count"] - before[name]["execution_count"] == runs
        assert set(after[name]["inference_stats"]) == {
            "success", "fail", "queue", "compute_input", "compute_infer", "compute_output",
            "cache_hit", "cache_miss",
        }  # fmt: skip
    grown = {
        span: (cells["count"] - old["count"], cells["ns"] - old["ns"])
        for (span, cells), old in zip(
            after["colours"]["inference_stats"].items(),
            before["colours"]["inference_stats"].values(),
            strict=True,
        )
    }
    once = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    assert {span for span, (count, _) in grown.items() if count == 1} == set(once)
    assert all(grown[span] == (0, 0) for span in ("fail", "cache_hit", "cache_miss"))
    assert grown["success"][1] >= grown["queue"][1] + grown["compute_infer"][1] > 0


def test_files_count_as_input_too(url: str, paint) -> None:
    before = entries(url, "/v2/models/stats")["colours"]["inference_stats"]
    assert httpx.post(f"{url}/predict", files={"file": paint(255, 0, 0)}).status_code == 200
    after = entries(url, "/v2/models/stats")["colours"]["inference_stats"]
    assert after["success"]["count"] == before["success"]["count"] + 1
    assert after["compute_input"]["count"] == before["compute_input"]["count"] + 1
    assert after["compute_input"]["ns"] > before["compute_input"]["ns"]


def test_the_parts_of_computing_are_counted_together(url: str, paint) -> None:
    """perf_analyzer refuses statistics in which they differ."""
    assert httpx.post(f"{url}/predict", files={"file": paint(255, 0, 0)}).status_code == 200
    assert httpx.post(url + INFER, json=images((1, 0, 0))).status_code == 200
    for row in entries(url, "/v2/models/stats").values():
        parts = ("success", "compute_input", "compute_infer", "compute_output")
        assert len({row["inference_stats"][part]["count"] for part in parts}) == 1


def test_a_request_that_no_exit_answered_in_time_counts_as_failed(url: str) -> None:
    before = entries(url, "/v2/models/stats")["colours"]["inference_stats"]
    late = {**images((1, 0, 0)), "parameters": {"deadline_ms": 1e-6}}
    assert httpx.post(url + INFER, json=late).status_code == 504
    after = entries(url, "/v2/models/stats")["colours"]["inference_stats"]
    assert after["fail"]["count"] == before["fail"]["count"] + 1
    assert after["success"] == before["success"]


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/colours/versions/2"])
@pytest.mark.parametrize("end", ["", "/ready", "/config", "/stats"])
def test_an_unknown_model_or_version_is_404(url: str, path: str, end: str) -> None:
    response = httpx.get(url + path + end)
    assert response.status_code == 404
    assert list(response.json()) == ["error"]
    assert "not here" in response.json()["error"]
