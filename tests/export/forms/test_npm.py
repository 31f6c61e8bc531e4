"""A cascade in the runtimes of JavaScript: native in Node, and the browser's WebAssembly."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hand_made
import javascript
import numpy as np
import onnxruntime
import pytest
import torch
from hand_made import CLASSES, EXITS, TEMPERATURES

from exitkit.engine.engine import Engine
from exitkit.engine.ort import OrtSegment
from exitkit.export import onnx, segments
from exitkit.export.forms import cascade, check
from exitkit.export.forms.expected import Expected, expect
from exitkit.export.precision import calibration, int8
from exitkit.models.build import build
from exitkit.policy.policy import Policy


@pytest.fixture(scope="module")
def packages() -> Path:
    return javascript.packages()


@dataclass(frozen=True)
class Case:
    """Segments of exits 1, 2 and 4, and what the engine says of them.

    `share` of the decisions may differ, and confidences be `off`: in WebAssembly some values are
    rounded to the next of eight bits.
    """

    files: list[Path]
    temperatures: tuple[float, ...]
    expected: Expected
    share: float = 0.0
    off: float = 1e-5


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """A narrow ResNet-18 as the export writes it, in float32 and int8; it has learnt nothing."""
    torch.manual_seed(0)
    net = build("resnet18", CLASSES, width=0.125, exits=EXITS)
    with torch.no_grad():
        for seed in range(10):  # for the batch norms
            net(torch.from_numpy(pictures(32, seed)))
    pieces = segments.cut(net.eval(), EXITS)
    shapes = segments.input_shapes(pieces, 32, 32)
    plain, eight = (tmp_path_factory.mktemp(name) for name in ("float32", "int8"))
    names = [f"segment_{exit}.onnx" for exit in EXITS]
    for piece, shape, name in zip(pieces, shapes, names, strict=True):
        onnx.write(piece, shape, plain / name)
    loaded, before = load([plain / name for name in names], shapes), None
    for position, name in enumerate(names):
        seen = calibration.hidden(loaded, position, [pictures(32, 10), pictures(32, 11)])
        int8.quantise(plain / name, eight / name, seen, before=before)
        before = eight / name
    temperatures = (0.2, 0.2, 0.2)
    policy = Policy("residual", EXITS, (1.0, 1.0), temperatures)
    cases = {}
    for precision, folder, *limits in (("float32", plain), ("int8", eight, 0.02, 0.01)):
        files = [folder / name for name in names]
        expected = expect(Engine(load(files, shapes), policy), pictures(24, 12))
        cases[precision] = Case(files, temperatures, expected, *limits)
    return cases


def load(files: list[Path], shapes: Sequence[tuple[int, ...]]) -> list[OrtSegment]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return [
        OrtSegment(
            onnxruntime.InferenceSession(str(file), options), exit, shape, CLASSES, "private", 1
        )
        for file, exit, shape in zip(files, EXITS, shapes, strict=True)
    ]


def pictures(count: int, seed: int) -> np.ndarray:
    """Return [count, 3, 32, 32], each of another colour."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, 3, 32, 32), dtype=np.float32) / 2
    return noise + random.standard_normal((count, 3, 1, 1), dtype=np.float32)


@pytest.fixture(params=["hand-made", "float32", "int8"])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "hand-made":
        engine, files = (request.getfixturevalue(name) for name in ("engine", "files"))
        return Case(files, TEMPERATURES, expect(engine, hand_made.images(48)))
    found: Case = request.getfixturevalue("residual")[request.param]
    return found


def write_table(path: Path, expected: Expected) -> None:
    levels, early = expected.thresholds.shape
    header = [*expected.images.shape, levels, early, len(check.BATCHES), *check.BATCHES]
    with path.open("wb") as file:
        for values, kind in (
            (header, "<i4"),
            (expected.images, "<f4"),
            (expected.thresholds, "<f4"),
        ):
            file.write(np.asarray(values, dtype=kind).tobytes())


@pytest.mark.parametrize("runtime", ["onnxruntime-node", "onnxruntime-web"])
def test_the_cascade_takes_the_same_exits_outside_python(
    runtime: str, packages: Path, case: Case, tmp_path: Path
) -> None:
    expected = case.expected
    form, table, answers = (
        tmp_path / name for name in ("cascade.onnx", "table.bin", "answers.bin")
    )
    cascade.write(case.files, EXITS, case.temperatures, form, {})
    write_table(table, expected)
    script = str(javascript.SOURCE / "exits.mjs")
    javascript.run(
        javascript.program("node"),
        script,
        str(packages),
        runtime,
        str(form),
        str(table),
        str(answers),
    )
    raw = answers.read_bytes()
    count = expected.exit.size
    exits, labels = np.frombuffer(raw, "<i4", 2 * count).reshape(2, *expected.exit.shape)
    confidence = np.frombuffer(raw, "<f4", count, offset=8 * count).reshape(expected.exit.shape)
    told = ~expected.near
    assert told.mean() > 0.9
    assert min((expected.exit == number).sum() for number in EXITS) > 20
    differ = (exits != expected.exit) | (labels != expected.label)
    assert differ[told].mean() <= case.share
    same = told & ~differ
    np.testing.assert_allclose(confidence[same], expected.confidence[same], atol=case.off)


def test_the_packages_are_pinned_and_the_lock_file_names_no_registry() -> None:
    versions = json.loads((javascript.SOURCE / "package.json").read_text())["dependencies"].values()
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
    assert '"resolved"' not in (javascript.SOURCE / "package-lock.json").read_text()
