"""What a server and its models are, over gRPC: the same words as over HTTP."""

import json
import shutil
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from calling import BLUE, RED, Address, images, serve, tensor, unary
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from exitkit.serve.rpc.descriptors import CLASSES


def test_a_server_tells_that_it_lives_and_is_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("colours")
    assert client.is_model_ready("colours", "1")


def test_the_metadata_are_those_over_http(both: Address, client: Any) -> None:
    server = httpx.get(f"{both.http}/v2").json()
    assert client.get_server_metadata(as_json=True) == server
    model = httpx.get(f"{both.http}/v2/models/colours").json()
    found = client.get_model_metadata("colours", "1", as_json=True)
    for row in (*found["inputs"], *found["outputs"]):
        row["shape"] = [int(axis) for axis in row["shape"]]  # JSON has no 64 bits
    assert found == {k: v for k, v in model.items() if k != "properties"}


def test_a_client_of_the_open_protocol_learns_how_to_normalise(channel: grpc.Channel) -> None:
    found = unary(channel, "ModelMetadata", CLASSES["ModelMetadataRequest"](name="colours"))
    assert json.loads(found.properties["mean"]) == [0.5, 0.5, 0.5]
    assert json.loads(found.properties["exits"]) == [2, 4]


def test_the_configuration_is_the_one_over_http(both: Address, client: Any) -> None:
    table = httpx.get(f"{both.http}/v2/models/colours/config").json()
    found = client.get_model_config("colours").config
    assert found.max_batch_size == table["max_batch_size"]
    assert found.HasField("dynamic_batching")
    assert not found.model_transaction_policy.decoupled
    assert not found.response_cache.enable
    for ours, theirs in (("input", found.input), ("output", found.output)):
        rows = MessageToDict(theirs[0], preserving_proto_field_name=True)
        assert rows["data_type"] == table[ours][0]["data_type"]
        assert [row.name for row in theirs] == [row["name"] for row in table[ours]]
        assert [list(row.dims) for row in theirs] == [row["dims"] for row in table[ours]]
        assert [row.HasField("reshape") for row in theirs] == ["reshape" in r for r in table[ours]]


def test_statistics_count_images_and_runs(colours: Path) -> None:
    with serve(colours) as both, InferenceServerClient(both.grpc) as client:
        for _ in range(3):
            client.infer("colours", [tensor(images(RED, BLUE))])
        found = client.get_inference_statistics("colours").model_stats
        rows = {row.name: row for row in found}
        assert (rows["colours"].inference_count, rows["colours"].execution_count) == (6, 3)
        assert rows["colours"].inference_stats.success.count == 3
        assert rows["colours"].inference_stats.compute_infer.ns > 0
        assert rows["colours/stage4"].inference_count == 3
        everything = client.get_inference_statistics().model_stats
        assert [row.name for row in everything] == list(rows)
        text = httpx.get(f"{both.http}/metrics").text
        assert 'exitkit_requests_total{route="grpc:ModelInfer",status="200"} 3' in text


def test_models_are_listed_loaded_and_unloaded(colours: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(colours, tmp_path / name)
    with serve(tmp_path / "one") as both, InferenceServerClient(both.grpc) as client:

        def states() -> dict[str, str]:
            return {row.name: row.state for row in client.get_model_repository_index().models}

        assert states() == {"one": "READY", "two": "UNAVAILABLE"}
        with pytest.raises(InferenceServerException, match="not here") as caught:
            client.infer("two", [tensor(images(RED))])
        assert caught.value.status() == "StatusCode.NOT_FOUND"
        client.load_model("two")
        assert states() == {"one": "READY", "two": "READY"}
        assert client.infer("two", [tensor(images(RED))]).as_numpy("label").tolist() == [b"red"]
        client.unload_model("two")
        assert states() == {"one": "READY", "two": "UNAVAILABLE"}
        assert not client.is_model_ready("two")
        with pytest.raises(InferenceServerException, match="unloaded") as caught:
            client.infer("two", [tensor(images(RED))])
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
        with pytest.raises(InferenceServerException, match="as its bundle says"):
            client.load_model("two", config="{}")
        request = CLASSES["RepositoryIndexRequest"](ready=True)
        with grpc.insecure_channel(both.grpc) as channel:
            found = unary(channel, "RepositoryIndex", request)
        assert [row.name for row in found.models] == ["one"]


@pytest.mark.parametrize(
    ("service", "answer"),
    [("", b"\x08\x01"), ("inference.GRPCInferenceService", b"\x08\x01")],
)
def test_orchestrators_are_told_that_it_serves(
    channel: grpc.Channel, service: str, answer: bytes
) -> None:
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    name = service.encode()
    assert check(bytes([10, len(name)]) + name if name else b"", timeout=30) == answer
    with pytest.raises(grpc.RpcError) as caught:
        check(b"\x0a\x05other", timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
