"""Every config.pbtxt parses against Triton's schema and keeps the rules of batched models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import schema
from google.protobuf import text_format
from tiny_export import Tiny

ONNX = ("tiny", "tiny_stage1", "tiny_stage2", "tiny_stage3")
TYPES = {"TYPE_FP32": "tensor(float)", "TYPE_INT64": "tensor(int64)"}


def config(repository: Path, model: str) -> Any:
    return schema.parse((repository / model / "config.pbtxt").read_text(encoding="utf-8"))


def told(found: Any) -> dict[str, str]:
    return {key: value.string_value for key, value in found.parameters.items()}


def test_the_schema_knows_its_own_fields_only() -> None:
    with pytest.raises(text_format.ParseError, match="max_batch"):
        schema.parse('name: "x" max_batch: 3')


def test_every_model_is_configured_under_its_own_name(repository: Path) -> None:
    models = sorted(path.name for path in repository.iterdir() if path.is_dir())
    assert models == ["tiny", "tiny_bls", "tiny_stage1", "tiny_stage2", "tiny_stage3"]
    for model in models:
        found = config(repository, model)
        assert found.name == model
        assert found.max_batch_size == 32
        assert found.HasField("dynamic_batching")
        assert found.version_policy.latest.num_versions == 1
        assert not found.response_cache.enable


@pytest.mark.parametrize("model", ONNX)
def test_inputs_and_outputs_are_those_of_the_file(repository: Path, model: str) -> None:
    """As the ONNX Runtime backend compares them: a batch axis first, the other axes exactly."""
    found = config(repository, model)
    session = onnxruntime.InferenceSession(str(repository / model / "1" / "model.onnx"))
    for entries, tensors in (
        (found.input, session.get_inputs()),
        (found.output, session.get_outputs()),
    ):
        assert [entry.name for entry in entries] == [tensor.name for tensor in tensors]
        for entry, tensor in zip(entries, tensors, strict=True):
            dims = entry.reshape.shape if entry.HasField("reshape") else entry.dims
            assert isinstance(tensor.shape[0], str)  # free
            assert list(dims) == tensor.shape[1:]
            kind = type(entry).DESCRIPTOR.fields_by_name["data_type"].enum_type
            assert TYPES[kind.values_by_number[entry.data_type].name] == tensor.type
            # Triton wants at least one axis beside the batch's, and none of size 0.
            assert len(entry.dims) > 0
            assert min(entry.dims) > 0
            assert np.prod(entry.dims) == np.prod(dims)
        assert found.backend == "onnxruntime"
    # This backend takes optional inputs of models without a batch only.
    assert not any(entry.optional for entry in found.input)


def test_both_variants_have_the_same_tensors(repository: Path) -> None:
    whole, logic = config(repository, "tiny"), config(repository, "tiny_bls")
    for mine, other in ((whole.input, logic.input), (whole.output, logic.output)):
        assert [(m.name, m.data_type, list(m.dims)) for m in mine] == [
            (o.name, o.data_type, list(o.dims)) for o in other
        ]
    assert [(entry.name, entry.optional) for entry in logic.input] == [
        ("images", False),
        ("thresholds", True),
    ]
    assert not any(entry.HasField("reshape") for entry in logic.output)
    assert logic.backend == "python"


def test_labels_belong_to_the_probabilities(tiny: Tiny, repository: Path) -> None:
    for model in ("tiny", "tiny_bls"):
        labels = {o.name: o.label_filename for o in config(repository, model).output}
        assert labels == {"probabilities": "labels.txt", "confidence": "", "exit": ""}
        text = (repository / model / "labels.txt").read_text()
        assert text.splitlines() == list(tiny.manifest.classes)


def test_the_settings_are_the_policy_to_the_last_digit(tiny: Tiny, repository: Path) -> None:
    for model in ("tiny", "tiny_bls"):
        found = told(config(repository, model))
        assert [int(k) for k in found["exits"].split(",")] == [1, 2, 3]
        for name in ("thresholds", "temperatures"):
            read = tuple(float(number) for number in found[name].split(","))
            assert read == getattr(tiny.policy, name)
        assert found["mean"] == "0.5,0.5,0.5"
        assert found["std"] == "0.25,0.25,0.25"
        assert found["network"] == tiny.policy.network
    assert told(config(repository, "tiny_bls"))["stages"] == "tiny_stage1,tiny_stage2,tiny_stage3"


def test_warm_up_runs_every_stage(tiny: Tiny, repository: Path) -> None:
    """Zeros for thresholds would end it at the first exit."""
    found = config(repository, "tiny")
    assert [(sample.name, sample.batch_size) for sample in found.model_warmup] == [
        ("one", 1),
        ("full", 32),
    ]
    session = onnxruntime.InferenceSession(str(repository / "tiny" / "1" / "model.onnx"))
    for sample in found.model_warmup:
        file = repository / "tiny" / "warmup" / sample.inputs["thresholds"].input_data_file
        row = np.frombuffer(file.read_bytes(), dtype="<f4")
        assert row.shape == tuple(sample.inputs["thresholds"].dims)
        assert sample.inputs["images"].zero_data
        feed = {
            "images": np.zeros((sample.batch_size, 3, 8, 8), np.float32),
            "thresholds": np.tile(row, (sample.batch_size, 1)),
        }
        assert set(session.run(["exit"], feed)[0].tolist()) == {3}


def test_the_business_logic_does_not_warm_up_stages_that_may_not_be_there(repository: Path) -> None:
    assert not config(repository, "tiny_bls").model_warmup


def test_the_business_logic_has_several_instances_for_the_stages_to_merge(
    repository: Path,
) -> None:
    (group,) = config(repository, "tiny_bls").instance_group
    assert (group.count, group.kind) == (4, group.KIND_CPU)


@pytest.mark.parametrize("device", ["auto", "cpu", "gpu"])
def test_onnx_models_run_where_they_are_told_to(tiny: Tiny, tmp_path: Path, device: str) -> None:
    repository = tiny.write(tmp_path / "models", device=device, max_batch_size=7)
    for model in (*ONNX, "tiny_bls"):
        found = config(repository, model)
        (group,) = found.instance_group
        wanted = "cpu" if model == "tiny_bls" else device
        assert group.kind == getattr(group, f"KIND_{wanted.upper()}")
        assert found.max_batch_size == 7
    assert told(config(repository, "tiny_bls"))["stage_max_batch_size"] == "7"


def test_one_exit_has_no_thresholds(static: Tiny, tmp_path: Path) -> None:
    repository = static.write(tmp_path / "models", "one")
    for model in ("one", "one_bls"):
        assert [entry.name for entry in config(repository, model).input] == ["images"]
        assert told(config(repository, model))["thresholds"] == ""
    assert not (repository / "one" / "warmup").exists()


def test_the_mark_names_what_was_written(tiny: Tiny, repository: Path) -> None:
    mark = json.loads((repository / "exitkit.json").read_text())
    assert mark["name"] == "tiny"
    assert mark["network"] == tiny.policy.network
    assert set(mark["models"]) == {*ONNX, "tiny_bls"}
