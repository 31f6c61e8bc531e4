import dataclasses
import json
from pathlib import Path

import onnxruntime
import pytest
from hand_made import EXITS, TEMPERATURES

from exitkit.bundle import Manifest, Segment
from exitkit.errors import BundleError
from exitkit.export.forms import metadata
from exitkit.export.forms.table import FORMS
from exitkit.images import ImageSpec
from exitkit.policy.policy import Policy

POLICY = Policy("d" * 64, EXITS, (0.9, 0.8), TEMPERATURES)
SPEC = ImageSpec(8, 8, (0.5, 0.4, 0.3), (0.25, 0.2, 0.1))
SEGMENTS = tuple(Segment(k, f"segment_{k}.onnx", (3, 8, 8), 1) for k in EXITS)
NAMES = ("cat", 'd"og', "ünï", "x", "y")
MANIFEST = Manifest("run", "d" * 64, "hand", "none", NAMES, SPEC, SEGMENTS, 0, {}, {})


def test_a_form_says_what_its_user_must_know(files: list[Path], tmp_path: Path) -> None:
    table = metadata.describe(MANIFEST, POLICY)
    for name, write in FORMS.items():
        path = tmp_path / f"{name}.onnx"
        write(files, EXITS, TEMPERATURES, path, table)
        assert metadata.read(path) == table
        metadata.require(metadata.read(path), POLICY)
    # As a user without exitkit sees it.
    seen = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert {key: json.loads(value) for key, value in seen.items()} == {
        "schema": "1.0",
        "network": "d" * 64,
        "policy": metadata.digest(POLICY),
        "exits": [1, 2, 4],
        "temperatures": [1.0, 0.7, 1.9],
        "thresholds": [0.9, 0.8],
        "classes": ["cat", 'd"og', "ünï", "x", "y"],
        "image": {"height": 8, "width": 8, "mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.1]},
    }


def test_the_digest_changes_with_the_policy_and_not_with_its_file(tmp_path: Path) -> None:
    POLICY.write(tmp_path / "policy.json")
    table = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.json").write_text(json.dumps(table))
    assert metadata.digest(Policy.read(tmp_path / "policy.json")) == metadata.digest(POLICY)
    assert metadata.digest(POLICY.with_threshold(0.5)) != metadata.digest(POLICY)


def test_a_policy_for_another_graph_is_refused() -> None:
    table = metadata.describe(MANIFEST, POLICY)
    metadata.require(table, POLICY.with_threshold(0.5))
    for name, value, words in (
        ("temperatures", (1.0, 0.7, 1.8), r"temperatures \[1.0, 0.7, 1.8\]: this one has .*1.9"),
        ("network", "e" * 64, "this one has d{64}"),
        ("exits", (1, 2, 3), r"exits \[1, 2, 3\]: this one has \[1, 2, 4\]"),
    ):
        with pytest.raises(BundleError, match=words):
            metadata.require(table, dataclasses.replace(POLICY, **{name: value}))
    with pytest.raises(BundleError, match="this one has None"):
        metadata.require({}, POLICY)
    with pytest.raises(BundleError, match=r"exits .* this one has one, two; export the form again"):
        metadata.require(table | {"exits": "one, two"}, POLICY)


def test_a_file_that_is_no_graph_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="cannot be read"):
        metadata.read(tmp_path / "broken.onnx")
