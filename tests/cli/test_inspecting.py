"""What `exitkit inspect` says about bundles, whole ones and those that somebody edited."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exitkit import bundle
from exitkit.atomic import sha256
from exitkit.cli import inspecting
from exitkit.errors import BundleError
from exitkit.images import ImageSpec
from exitkit.policy.policy import Policy

ENGINE = bundle.EngineFile(
    "segment_2.engine", "tensorrt", "11.4", ("sm90",), "NVIDIA H100", (1, 8, 64), "old"
)
EXITS = [{"decisions": 700, "near": 20}, {"decisions": 400, "near": 1}]
FORM = {
    "file": "cascade.onnx", "images": 100, "decisions": 1000, "near": 7, "exit_different": 1,
    "label_different": 2, "confidence_different": 3,
}  # fmt: skip
CHANGE = {
    "exits": [{"exit": 2, "before": 0.5, "after": 0.4875}, {"exit": 4, "before": 0.75, "after": 1}],
    "before": {"accuracy": 0.625, "shares": [0.25, 0.75]},
    "after": {"accuracy": 0.6, "shares": [0.3125, 0.6875]},
}
PROOF = {"passed": True, "images": 100, "split": "tune", "exits": EXITS, "forms": [FORM]}
ORIGIN = {
    "exitkit": "0.1", "commit": "c" * 40, "machine": {"torch": "2"}, "run": "one", "data": "digits",
    "trained_exits": [2, 4], "pruned": {"run": "wide", "ratio": 0.5}, "opset": {"a": 20},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("segment_2.onnx", "segment_4.onnx", "segment_2.engine", "cascade.onnx"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / bundle.PARITY).write_text(json.dumps(PROOF | {"change": CHANGE}))
    segments = (
        bundle.Segment(2, "segment_2.onnx", (3, 32, 32), 10, ENGINE),
        bundle.Segment(4, "segment_4.onnx", (8, 8, 8), 20),
    )
    spec = ImageSpec(32, 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    manifest = bundle.Manifest(
        "one", "abc", "resnet18", "deep", ("cat", "dog"), spec, segments, 25, {}, ORIGIN, "int8",
        {"cascade": "cascade.onnx"},
    )  # fmt: skip
    bundle.write_manifest(tmp_path, manifest)
    Policy("abc", (2, 4), (0.5,), (1.0, 1.5)).write(tmp_path / bundle.POLICY)
    return tmp_path


def edit(folder: Path, name: str, table: Any) -> None:
    """Write a file and sign it."""
    (folder / name).write_text(json.dumps(table))
    if name not in (bundle.MANIFEST, bundle.POLICY):
        manifest = json.loads((folder / bundle.MANIFEST).read_text())
        manifest["files"][name] = sha256(folder / name)
        (folder / bundle.MANIFEST).write_text(json.dumps(manifest))


def test_a_form_is_shown_with_what_it_did_against_the_segments(folder: Path) -> None:
    found = inspecting.inspected(folder)
    (form,) = found.table["forms"]
    assert (form["kind"], form["compared"], form["near"], form["differ"]) == ("cascade", 993, 7, 6)
    (line,) = [line for line in found.words.splitlines() if line.startswith("cascade ")]
    assert line.split()[-3:] == ["993", "7", "6"]
    assert "1079 decisions compared, 21 too near a threshold" in found.words


def test_another_precision_is_shown_before_and_after(folder: Path) -> None:
    words = inspecting.inspected(folder).words
    assert "int8 against float32, at export on the tune split:" in words
    lines = [line.split() for line in words.splitlines()]
    assert ["exit", "2", "50.00%", "48.75%", "25.0%", "31.2%"] in lines
    assert ["policy", "62.50%", "60.00%", "100.0%", "100.0%"] in lines
    edit(folder, bundle.PARITY, PROOF)
    assert "against float32" not in inspecting.inspected(folder).words


def test_names_cannot_command_the_terminal(folder: Path) -> None:
    table = json.loads((folder / bundle.MANIFEST).read_text())
    evil = "\x1b[2J\x07\r\ud800\u202e"
    table |= {"arch": evil, "method": evil, "forms": {evil: "cascade.onnx"}}
    table["origin"] |= {"run": evil, "data": evil, "commit": evil}
    table["segments"][0]["engine"] |= {"version": evil, "device": evil}
    edit(folder, bundle.MANIFEST, table)
    words = inspecting.inspected(folder).words
    assert words.replace("\n", "").isprintable()
    assert words.count(r"\x1b[2J\x07\r\ud800\u202e") == 8


def test_an_origin_that_is_no_table_is_an_edit(folder: Path) -> None:
    table = json.loads((folder / bundle.MANIFEST).read_text())
    for origin in ([], "home", None, 5):
        edit(folder, bundle.MANIFEST, table | {"origin": origin})
        with pytest.raises(BundleError, match=r"manifest\.json: was edited .*origin"):
            inspecting.inspected(folder)
    for key, value in (("machine", []), ("pruned", "yes"), ("opset", [1]), ("trained_exits", 4)):
        edit(folder, bundle.MANIFEST, table | {"origin": ORIGIN | {key: value}})
        with pytest.raises(BundleError, match=r"manifest\.json: was edited .*origin"):
            inspecting.inspected(folder)


WRONG = (None, True, 5, -1, 0, 1.5, float("inf"), float("nan"), "", "x", "\x1b[2J", [], [1], ["x"],
         {}, {"a": 1}, [[]], [{}], 10**400)  # fmt: skip


def edited(value: Any) -> Iterator[Any]:
    """Yield a JSON value with each part of it replaced by everything wrong, or left out."""
    yield from WRONG
    keys = [*value] if isinstance(value, dict) else []
    for key in keys or (range(len(value)) if isinstance(value, list) else []):
        for other in edited(value[key]):
            changed = copy.copy(value)
            changed[key] = other
            yield changed
    for key in keys:
        yield {name: one for name, one in value.items() if name != key}


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.POLICY, bundle.PARITY])
def test_whatever_was_edited_ends_in_words(folder: Path, name: str) -> None:
    honest, refused = json.loads((folder / name).read_text()), 0
    for table in edited(honest):
        edit(folder, name, table)
        try:
            words = inspecting.inspected(folder).words
        except BundleError:
            refused += 1
        else:
            assert words.replace("\n", "").isprintable()
    assert refused > 50
