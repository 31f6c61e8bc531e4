import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import hand_made
import numpy as np
import onnx
import onnxruntime
import pytest
from hand_made import EXITS, TEMPERATURES
from onnx import helper, numpy_helper

from exitkit.engine.engine import Engine
from exitkit.engine.ort import OrtSegment
from exitkit.errors import DataError, ExportError, ParityError
from exitkit.export.forms import alone, cascade, check
from exitkit.export.forms.expected import Expected, expect
from exitkit.export.forms.table import FORMS
from exitkit.export.onnx import OnnxFile
from exitkit.policy.policy import Policy


@pytest.fixture(scope="module")
def expected(engine: Engine) -> Expected:
    return expect(engine, hand_made.images(60))


def test_the_engines_answers_at_the_deciles_of_each_exits_confidence_are_expected(
    expected: Expected, engine: Engine
) -> None:
    assert expected.thresholds.shape == (10, 2)
    confidence = engine.answer(expected.images, thresholds=[0, 0]).probability
    deciles = np.quantile(confidence, np.arange(1, 10) / 10)
    own = engine.policy.thresholds[0]  # of the policy; the largest
    np.testing.assert_allclose(expected.thresholds[:, 0], [*deciles, own], rtol=1e-6)
    for level, row in enumerate(expected.thresholds):
        answers = engine.answer(expected.images, thresholds=row)
        told = ~expected.near[level]
        assert told.sum() > 50
        assert expected.exit[level][told].tolist() == answers.exit[told].tolist()
        assert expected.label[level][told].tolist() == answers.label[told].tolist()
        np.testing.assert_allclose(
            expected.confidence[level][told], answers.probability[told], rtol=1e-5
        )
    assert expected.exits == EXITS


@pytest.mark.parametrize("name", [*FORMS, "rows"])
def test_a_form_of_the_engines_own_segments_passes(
    name: str, files: list[Path], expected: Expected, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.onnx"
    if name == "rows":
        cascade.write(files, EXITS, TEMPERATURES, path, {}, per_row=True)
    else:
        FORMS[name](files, EXITS, TEMPERATURES, path, {})
    found = check.check(path, expected, threads=1)
    assert found.failures == ()
    found.require()
    assert found.decisions == 10 * 60
    assert min(found.leaving) > 50
    assert found.near < 30
    assert found.difference < 1e-6
    assert found.otherwise == (0,) * 10
    table = found.to_json()
    assert (table["passed"], table["decisions"], table["file"]) == (True, 600, path.name)
    assert table["exit_different"] == table["label_different"] == 0


def test_another_temperature_takes_other_exits(
    files: list[Path], expected: Expected, tmp_path: Path
) -> None:
    cascade.write(files, EXITS, (1.1, 0.7, 1.9), tmp_path / "warm.onnx", {})
    found = check.check(tmp_path / "warm.onnx", expected, threads=1)
    answers = check.run(tmp_path / "warm.onnx", expected, threads=1)
    differ = (answers["exit"] != expected.exit) & ~expected.near
    assert found.exit_different == differ.sum() > 20
    text = f"{found.exit_different} of {600 - found.near} decisions take another exit"
    assert text in found.failures
    with pytest.raises(ParityError) as caught:
        found.require()
    error = caught.value
    assert re.fullmatch(r"warm\.onnx deciding like the engine on \d+ images", error.asked)
    assert error.found == "; ".join(found.failures)
    assert error.do.startswith("do not use it")
    assert found.to_json()["passed"] is False
    assert sum(found.otherwise) >= found.exit_different


def test_a_confidence_that_is_off_fails_where_no_decision_hangs_on_it(
    files: list[Path], expected: Expected, tmp_path: Path
) -> None:
    cascade.write(files, EXITS, (1.0, 0.7, 2.0), tmp_path / "last.onnx", {})
    found = check.check(tmp_path / "last.onnx", expected, threads=1)
    assert (found.exit_different, found.label_different, sum(found.otherwise)) == (0, 0, 0)
    assert 0 < found.confidence_different <= found.leaving[2]
    assert "have another confidence" in found.failures[0]
    assert 0.001 < found.difference < 0.1


def test_a_wide_tolerance_lets_no_other_decision_through(
    files: list[Path], engine: Engine, tmp_path: Path
) -> None:
    # One class that no image is of, and a logit "off by 1e-4 of the largest" may be off by 10.
    far = [with_offset(file, tmp_path / file.name, -1e5) for file in files]
    expected = expect(Engine(hand_made.load(far), engine.policy), hand_made.images(60))
    assert expected.near.all()
    cascade.write(far, EXITS, TEMPERATURES, tmp_path / "form.onnx", {})
    assert check.check(tmp_path / "form.onnx", expected, threads=1).failures == ()

    cascade.write(far, EXITS, (1.1, 0.7, 1.9), tmp_path / "warm.onnx", {})
    found = check.check(tmp_path / "warm.onnx", expected, threads=1)
    assert (found.exit_different, found.label_different) == (0, 0)  # as all are near
    raw, one, *_ = found.failures
    differ = sum(found.otherwise)
    assert raw == (
        f"{differ} of 600 decisions differ, those near a threshold counted too (limit 20)"
    )
    assert 20 < differ < 200
    assert one == (
        f"{max(found.otherwise)} of 60 images are decided otherwise at one setting of thresholds "
        "(limit 2)"
    )

    # Nobody takes another exit for the last temperature.
    cascade.write(far, EXITS, (1.0, 0.7, 3.0), tmp_path / "last.onnx", {})
    found = check.check(tmp_path / "last.onnx", expected, threads=1)
    assert sum(found.otherwise) == 0
    assert found.failures[0].startswith(f"{found.confidence_different} of 600 decisions have ano")


def with_offset(source: Path, target: Path, value: float) -> Path:
    """Write a hand-made segment whose class 0 has `value` more than it had."""
    model = onnx.load(source)
    offset = np.zeros(hand_made.CLASSES, dtype=np.float32)
    offset[0] = value
    model.graph.initializer.append(numpy_helper.from_array(offset, "offset"))
    (head,) = [node for node in model.graph.node if node.op_type == "Gemm"]
    head.input.append("offset")
    onnx.save_model(model, target)
    return target


@pytest.mark.parametrize(
    ("output", "operator", "failure"),
    [
        ("logits", "Neg", "60 of 60 images get other logits"),
        ("probabilities", "Sqrt", "decisions have other probabilities"),
        ("confidence", "Sqrt", "decisions have another confidence"),
    ],
)
def test_every_output_is_compared(
    output: str,
    operator: str,
    failure: str,
    files: list[Path],
    expected: Expected,
    tmp_path: Path,
) -> None:
    FORMS["all"](files, EXITS, TEMPERATURES, tmp_path / "form.onnx", {})
    model = onnx.load(tmp_path / "form.onnx")
    (maker,) = [node for node in model.graph.node if output in node.output]
    maker.output[0] = "honest"
    model.graph.node.append(helper.make_node(operator, ["honest"], [output]))
    onnx.save_model(model, tmp_path / "form.onnx")
    found = check.check(tmp_path / "form.onnx", expected, threads=1)
    assert any(failure in text for text in found.failures)
    assert sum(found.otherwise) == 0  # no decision hangs on it
    with pytest.raises(ParityError, match=failure):
        found.require()


def test_the_confidence_is_the_largest_probability(
    files: list[Path], expected: Expected, tmp_path: Path
) -> None:
    # Within reach of both, and yet they do not belong together.
    loose = dataclasses.replace(expected, reach=np.full_like(expected.reach, 1.0))
    cascade.write(files, EXITS, TEMPERATURES, tmp_path / "form.onnx", {})
    model = onnx.load(tmp_path / "form.onnx")
    (maker,) = [node for node in model.graph.node if "confidence" in node.output]
    maker.output[0] = "honest"
    model.graph.node.append(helper.make_node("Sqrt", ["honest"], ["confidence"]))
    onnx.save_model(model, tmp_path / "form.onnx")
    found = check.check(tmp_path / "form.onnx", loose, threads=1)
    assert found.confidence_different > 500
    assert found.probabilities_different == 0


def test_another_label_fails(files: list[Path], expected: Expected, tmp_path: Path) -> None:
    swapped = dataclasses.replace(expected, label=(expected.label + 1) % hand_made.CLASSES)
    cascade.write(files, EXITS, TEMPERATURES, tmp_path / "form.onnx", {})
    found = check.check(tmp_path / "form.onnx", swapped, threads=1)
    assert found.label_different == 600 - found.near
    assert found.failures[0] == (
        f"{600 - found.near} of {600 - found.near} decisions give another label"
    )
    assert found.otherwise == (60,) * 10


def test_a_single_exit_is_checked_without_thresholds(
    files: list[Path], engine: Engine, tmp_path: Path
) -> None:
    policy = dataclasses.replace(engine.policy, exits=(4,), thresholds=(), temperatures=(1.9,))
    last = Engine(engine.segments[2:], policy)
    hidden = np.random.default_rng(0).standard_normal((20, 6, 4, 4), dtype=np.float32)
    cascade.write(files[2:], (4,), (1.9,), tmp_path / "form.onnx", {})
    found = check.check(tmp_path / "form.onnx", expect(last, hidden), threads=1)
    assert found.failures == ()
    assert (found.thresholds, found.leaving) == (((),), (20,))


def test_a_process_that_is_killed_says_so(
    expected: Expected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "killed.py"
    program.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setattr(alone, "__file__", str(program))
    with pytest.raises(ExportError, match=r"it failed \(it ended with code -9\)"):
        check.check(tmp_path / "form.onnx", expected, threads=1)


def test_a_file_that_the_runtime_refuses(expected: Expected, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    with pytest.raises(ExportError, match=r"broken\.onnx in plain ONNX Runtime: it failed"):
        check.check(tmp_path / "broken.onnx", expected, threads=1)


def test_without_images_there_is_nothing_to_check(engine: Engine) -> None:
    with pytest.raises(DataError, match="no images"):
        expect(engine, hand_made.images(0))


def test_thresholds_per_row_meet_every_image_in_mixed_batches() -> None:
    assert alone.turns(3, 4, per_row=False).tolist() == [[0] * 4, [1] * 4, [2] * 4]
    whose = alone.turns(3, 4, per_row=True)
    assert whose.tolist() == [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2]]
    values = whose * 10 + np.arange(4)
    assert alone.by_level(values.ravel(), whose).tolist() == [
        [0, 1, 2, 3],
        [10, 11, 12, 13],
        [20, 21, 22, 23],
    ]


def test_the_program_that_runs_a_form_knows_no_exitkit() -> None:
    imported = set()
    for node in ast.walk(ast.parse(Path(alone.__file__).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported == {"itertools", "sys", "typing", "numpy", "onnxruntime"}


def test_forms_and_their_check_leave_torch_unloaded() -> None:
    code = "import sys, exitkit.export.forms.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_segments_that_torch_wrote_pass(
    name: str, tiny_files: list[OnnxFile], tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(str(file.path), options) for file in tiny_files]
    shapes = [tuple(session.get_inputs()[0].shape[1:]) for session in sessions]
    segments = [
        OrtSegment(session, exit, shape, 5, "private", 1)
        for session, exit, shape in zip(sessions, (2, 3), shapes, strict=True)
    ]
    engine = Engine(segments, Policy("tiny", (2, 3), (0.5,), (0.5, 2.0)))
    files = [file.path for file in tiny_files]
    FORMS[name](files, (2, 3), (0.5, 2.0), tmp_path / "form.onnx", {})
    images = np.random.default_rng(0).standard_normal((30, 3, 8, 8), dtype=np.float32) * 2 + 1
    found = check.check(tmp_path / "form.onnx", expect(engine, images), threads=1)
    assert found.failures == ()
    assert min(found.leaving) > 50
