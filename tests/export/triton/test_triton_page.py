"""What docs/triton.md says is what is written and computed."""

import re
from pathlib import Path
from typing import Any

import schema

PAGE = (Path(__file__).parents[3] / "docs" / "triton.md").read_text(encoding="utf-8")


def config(repository: Path, model: str) -> Any:
    return schema.parse((repository / model / "config.pbtxt").read_text(encoding="utf-8"))


def test_the_table_of_chains_is_computed() -> None:
    sizes = [int(size) for size in re.findall(r"B = (\d+)", PAGE)]
    rows = re.findall(r"^\| (0\.\d) \| (.+) \|$", PAGE, re.MULTILINE)
    assert sizes == [1, 4, 8, 16, 32]
    assert len(rows) == 3
    for p, cells in rows:
        assert cells.split(" | ") == [f"{float(p) ** size:.3f}" for size in sizes]


def test_the_table_of_tensors_is_the_configuration(repository: Path) -> None:
    types = {"TYPE_FP32": "FP32", "TYPE_INT64": "INT64"}
    symbols = {"images": "3, H, W", "thresholds": "K-1", "probabilities": "C"}
    found = config(repository, "tiny_bls")
    written = []
    for entry in (*found.input, *found.output):
        kind = type(entry).DESCRIPTOR.fields_by_name["data_type"].enum_type
        name = types[kind.values_by_number[entry.data_type].name]
        written.append((entry.name, f"{name} `[n, {symbols.get(entry.name, '1')}]`"))
    assert re.findall(r"^\| `(\w+)` \| ((?:FP32|INT64) `[^`]+`) \|", PAGE, re.MULTILINE) == written


def test_waits_and_instances_are_those_written(repository: Path) -> None:
    found = config(repository, "tiny_bls")
    queue = found.dynamic_batching
    policy = queue.default_queue_policy
    assert f"wait {queue.max_queue_delay_microseconds / 1e3} ms" in PAGE
    assert f"at most {policy.max_queue_size} wait" in PAGE
    assert f"after {policy.default_timeout_microseconds // 1_000_000} s one is refused" in PAGE
    assert policy.allow_timeout_override
    assert found.instance_group[0].count == 4
    assert "It has four instances." in PAGE
    stage = config(repository, "tiny_stage1")
    assert stage.HasField("dynamic_batching")
    assert stage.dynamic_batching.max_queue_delay_microseconds == 0
