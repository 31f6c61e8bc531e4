"""A bundle that was damaged, edited or made for another schema is refused, with its path."""

import json
from pathlib import Path

import pytest

from exitkit import bundle
from exitkit.errors import BundleError
from exitkit.export import precision
from exitkit.export.limits import LIMITS
from exitkit.images import ImageSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "segment_2.onnx").write_bytes(b"first")
    (tmp_path / "segment_4.onnx").write_bytes(b"second")
    bundle.write_manifest(
        tmp_path,
        bundle.Manifest(
            name="one",
            network="abc",
            arch="resnet18",
            method="deep",
            classes=("cat", "dog"),
            image=ImageSpec(32, 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
            segments=(
                bundle.Segment(2, "segment_2.onnx", (3, 32, 32), 10),
                bundle.Segment(4, "segment_4.onnx", (8, 8, 8), 20),
            ),
            plain_macs=25,
            files={},
            origin={"run": "one"},
        ),
    )
    return tmp_path


def test_what_is_written_is_read(folder: Path) -> None:
    manifest = bundle.read_manifest(folder)
    assert manifest.exits == (2, 4)
    assert manifest.image == ImageSpec(32, 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    assert manifest.segments[1].input_shape == (8, 8, 8)
    assert set(manifest.files) == {"segment_2.onnx", "segment_4.onnx"}


def test_the_policy_may_be_replaced(folder: Path) -> None:
    (folder / bundle.POLICY).write_text("{}")
    assert bundle.POLICY not in bundle.read_manifest(folder).files


def edit(folder: Path, **changes: object) -> None:
    path = folder / bundle.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("content", [b"", b"firs", b"fyrst"])
def test_a_truncated_or_edited_file_is_named(folder: Path, content: bytes) -> None:
    (folder / "segment_2.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"segment_2\.onnx.*truncated or was edited"):
        bundle.read_manifest(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "segment_4.onnx").unlink()
    with pytest.raises(BundleError, match=r"segment_4\.onnx.*missing"):
        bundle.read_manifest(folder)


ENGINE = {
    "file": "segment_2.engine",
    "builder": "tensorrt",
    "version": "11.4",
    "targets": ["sm89"],
    "device": "",
    "batches": [1, 8, 64],
    "onnx": "0" * 64,
}


def with_engine(folder: Path, engine: object, schema: str = bundle.SCHEMA) -> None:
    """Let the first segment name an engine, whose file is there and listed."""
    (folder / "segment_2.engine").write_bytes(b"plan")
    first, second = json.loads((folder / bundle.MANIFEST).read_text())["segments"]
    bundle.write_manifest(folder, bundle.read_manifest(folder))
    edit(folder, segments=[first | {"engine": engine}, second], schema=schema)


def test_an_engine_is_read_with_all_that_it_needs(folder: Path) -> None:
    with_engine(folder, ENGINE)
    manifest = bundle.read_manifest(folder)
    first, second = manifest.segments
    assert first.engine == bundle.EngineFile(
        "segment_2.engine", "tensorrt", "11.4", ("sm89",), "", (1, 8, 64), "0" * 64
    )
    assert second.engine is None
    assert manifest.stale(first)
    assert not manifest.stale(second)
    with_engine(folder, ENGINE | {"onnx": manifest.files["segment_2.onnx"]})
    manifest = bundle.read_manifest(folder)
    assert not manifest.stale(manifest.segments[0])


@pytest.mark.parametrize("engine", ["", "segment_2.engine"])
def test_of_an_engine_of_an_older_schema_nothing_is_known(folder: Path, engine: str) -> None:
    with_engine(folder, engine, schema="1.1")
    manifest = bundle.read_manifest(folder)
    assert [segment.engine for segment in manifest.segments] == [None, None]
    assert "segment_2.engine" in manifest.files


@pytest.mark.parametrize(
    "engine",
    [
        "segment_2.engine",
        5,
        {},
        ENGINE | {"extra": 1},
        ENGINE | {"builder": "other"},
        ENGINE | {"version": 11},
        ENGINE | {"targets": "sm89"},
        ENGINE | {"targets": []},
        ENGINE | {"targets": 89},
        ENGINE | {"batches": [1, 8]},
        ENGINE | {"batches": [1, 8, "64"]},
        ENGINE | {"batches": 64},
        ENGINE | {"onnx": None},
    ],
)
def test_an_engine_of_another_make_is_an_edit(folder: Path, engine: object) -> None:
    with_engine(folder, engine)
    with pytest.raises(BundleError, match=r"manifest\.json: was edited .*; export it again"):
        bundle.read_manifest(folder)


@pytest.mark.parametrize("file", ["other.engine", "../segment_2.engine", ""])
def test_an_engine_is_the_name_of_a_listed_file(folder: Path, file: str) -> None:
    with_engine(folder, ENGINE | {"file": file})
    with pytest.raises(BundleError, match="does not list"):
        bundle.read_manifest(folder)


def test_another_major_schema_is_refused(folder: Path) -> None:
    edit(folder, schema="2.0")
    with pytest.raises(BundleError, match=r"schema 2\.0"):
        bundle.read_manifest(folder)


def test_an_older_minor_schema_is_read(folder: Path) -> None:
    table = json.loads((folder / bundle.MANIFEST).read_text())
    del table["precision"], table["forms"]  # which 1.0 did not have
    (folder / bundle.MANIFEST).write_text(json.dumps(table | {"schema": "1.0"}))
    found = bundle.read_manifest(folder)
    assert (found.name, found.precision, found.forms) == ("one", "float32", {})


@pytest.mark.parametrize("schema", ["1.3", "1.10"])
def test_a_newer_minor_schema_is_refused_with_what_to_update(folder: Path, schema: str) -> None:
    edit(folder, schema=schema)
    with pytest.raises(BundleError, match=rf"schema {schema}, this .* reads 1\.2; update exitkit"):
        bundle.read_manifest(folder)


@pytest.mark.parametrize("schema", ["1", "one.two", "1.0.0"])
def test_a_schema_that_is_no_version_is_refused(folder: Path, schema: str) -> None:
    edit(folder, schema=schema)
    with pytest.raises(BundleError, match=f"schema {schema}"):
        bundle.read_manifest(folder)


def test_a_form_that_no_digest_covers_is_refused(folder: Path) -> None:
    edit(folder, forms={"cascade": "cascade.onnx"})
    with pytest.raises(BundleError, match=r"does not list cascade\.onnx"):
        bundle.read_manifest(folder)


@pytest.mark.parametrize("name", ["", "../cascade.onnx", "/cascade.onnx", ["a"], {"a": 1}, None])
def test_a_form_is_the_name_of_a_listed_file(folder: Path, name: object) -> None:
    edit(folder, forms={"cascade": name})
    with pytest.raises(BundleError, match="does not list"):
        bundle.read_manifest(folder)


@pytest.mark.parametrize("name", ["", "../segment_2.onnx", ["a"], {"a": 1}, None])
def test_a_segment_is_the_name_of_a_listed_file(folder: Path, name: object) -> None:
    segments = json.loads((folder / bundle.MANIFEST).read_text())["segments"]
    edit(folder, segments=[segments[0] | {"file": name}, segments[1]])
    with pytest.raises(BundleError, match="does not list"):
        bundle.read_manifest(folder)


def test_the_precisions_are_those_of_the_export() -> None:
    assert bundle.PRECISIONS == precision.PRECISIONS == tuple(LIMITS)


def test_a_truncated_manifest_is_no_bundle(folder: Path) -> None:
    path = folder / bundle.MANIFEST
    path.write_text(path.read_text()[:100])
    with pytest.raises(BundleError, match="no bundle"):
        bundle.read_manifest(folder)


def test_a_field_too_many_is_an_edit(folder: Path) -> None:
    edit(folder, extra=1)
    with pytest.raises(BundleError, match="was edited"):
        bundle.read_manifest(folder)


def test_a_segment_that_has_no_digest_is_refused(folder: Path) -> None:
    edit(folder, files={})
    with pytest.raises(BundleError, match=r"does not list segment_2\.onnx"):
        bundle.read_manifest(folder)


def test_no_file_outside_the_bundle_is_read(folder: Path) -> None:
    edit(folder, files={"../secret": "0" * 64})
    with pytest.raises(BundleError, match="outside itself"):
        bundle.read_manifest(folder)


IMAGE = {"height": 64, "width": 64, "mean": [0.5] * 3, "std": [0.2] * 3}


@pytest.mark.parametrize(
    "changes",
    [
        {"image": IMAGE},
        {"segments": []},
        {"segments": [1]},
        {"files": 5},
        {"plain_macs": "many"},
        {"precision": "bf16"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_manifest_that_contradicts_itself_was_edited(
    folder: Path, changes: dict[str, object]
) -> None:
    edit(folder, **changes)
    with pytest.raises(BundleError, match=r"manifest\.json: was edited"):
        bundle.read_manifest(folder)
