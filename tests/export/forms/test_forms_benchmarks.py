"""The benchmarks of forms run and compare what they should; what they measure is not asked here."""

import argparse
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import hand_made
import numpy as np
import pytest
from hand_made import EXITS, TEMPERATURES
from PIL import Image

from exitkit import bundle
from exitkit.bundle import Manifest, Segment
from exitkit.export.forms import cascade, chain
from exitkit.images import ImageSpec
from exitkit.policy.policy import Policy
from exitkit.report.benchmarks import TABLES

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
CLASSES = ("ant", "bee", "cat", "dog", "emu")


@pytest.fixture(scope="module")
def made(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the hand-made segments with two other forms."""
    folder = tmp_path_factory.mktemp("bundles") / "made"
    folder.mkdir()
    pieces = []
    for exit, file, (channels, side) in zip(EXITS, files, hand_made.MAPS[:-1], strict=True):
        (folder / file.name).write_bytes(file.read_bytes())
        pieces.append(Segment(exit, file.name, (channels, side, side), 1))
    policy = Policy("d" * 64, EXITS, (0.75, 0.85), TEMPERATURES)
    policy.write(folder / "policy.json")
    for name, write in (("cascade", cascade.write), ("chain", chain.write)):
        write(files, EXITS, TEMPERATURES, folder / f"{name}.onnx", {})
    forms = {"cascade": "cascade.onnx", "chain": "chain.onnx"}
    spec = ImageSpec(8, 8, (0.5,) * 3, (0.25,) * 3)
    manifest = Manifest(
        "run", "d" * 64, "hand", "none", CLASSES, spec, tuple(pieces), 3, {}, {}, forms=forms
    )
    bundle.write_manifest(folder, manifest)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of noise per class."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir()
        for number in range(10):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    # The tests of the engine are a package of the same name as its benchmark.
    spec = importlib.util.spec_from_file_location("engine", BENCHMARKS / "engine.py")
    assert spec is not None
    assert spec.loader is not None
    staged = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "engine", staged)
    spec.loader.exec_module(staged)
    return importlib.import_module(name)


def test_every_form_gets_the_row_that_its_table_shows(
    made: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = module("forms", monkeypatch)
    monkeypatch.setattr(forms, "RESULTS", tmp_path / "forms.jsonl")
    words = [str(made), "--images", str(pictures), "--rounds", "1", "--threads", "1", "--write"]
    monkeypatch.setattr("sys.argv", ["forms.py", *words])
    forms.main()
    rows = [json.loads(line) for line in (tmp_path / "forms.jsonl").read_text().splitlines()]
    assert [row["form"] for row in rows] == ["staged", "cascade", "chain"]
    sizes = [sum((made / f"segment_{k}.onnx").stat().st_size for k in EXITS)]
    sizes += [(made / f"{name}.onnx").stat().st_size for name in ("cascade", "chain")]
    for row, size in zip(rows, sizes, strict=True):
        assert {column.key for column in TABLES["forms"].columns} <= set(row)
        assert (row["as_staged"], row["as_float32"], row["images"]) == (1.0, 1.0, 50)
        assert row["mb"] == round(size / 1e6, 3)
        assert row["accuracy"] == rows[0]["accuracy"]
        assert sum(row["left"]) == pytest.approx(1.0)


def test_decisions_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = module("forms", monkeypatch)
    one = np.array([1, 1, 2, 4]), np.array([0, 1, 2, 3])
    assert forms.same(one, one) == 1.0
    assert forms.same(one, (np.array([1, 2, 2, 4]), np.array([0, 1, 2, 0]))) == 0.5


def test_pictures_of_other_classes_are_refused(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ant").mkdir()
    with pytest.raises(SystemExit, match="its folders are not the 5 classes of the bundle"):
        module("forms", monkeypatch).pictures(tmp_path, bundle.read_manifest(made), 10)


def test_cascade_and_engine_take_turns_on_the_same_exits(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = module("cascade", monkeypatch)
    monkeypatch.setattr(benchmark, "EXITS", EXITS)
    monkeypatch.setattr(benchmark.staged, "SIZE", 8)
    monkeypatch.setattr(benchmark.staged, "LEAVING", {1: (2, 1, 1), 4: (2, 1, 1)})
    options = argparse.Namespace(threads=1, rounds=2, batches="1,4")
    rows = benchmark.measure(made, tmp_path, options, "private")
    shown = {column.key for column in TABLES["cascade"].columns} - {"threads"}
    assert [row["batch"] for row in rows] == [1, 4]
    assert all(shown <= set(row) for row in rows)
    assert benchmark.ratio({"cascade": [1.0, 3.0, 8.0], "engine": [2.0, 2.0, 2.0]}) == 1.5
