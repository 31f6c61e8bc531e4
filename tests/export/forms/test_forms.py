"""Every form against the plainest formulation: one image at a time, exit by exit."""

import json
import math
from pathlib import Path

import hand_made
import numpy as np
import onnxruntime
import pytest
from hand_made import CLASSES, EXITS, TEMPERATURES

from exitkit.engine.engine import Engine
from exitkit.export.forms import cascade
from exitkit.export.forms.table import FORMS

NAMES = (*FORMS, "rows")
OUTPUTS = ["probabilities", "confidence", "exit"]


def write(name: str, files: list[Path], path: Path) -> Path:
    if name == "rows":
        cascade.write(files, EXITS, TEMPERATURES, path, {}, per_row=True)
    else:
        FORMS[name](files, EXITS, TEMPERATURES, path, {"exits": json.dumps(EXITS)})
    return path


@pytest.fixture(scope="module")
def forms(
    files: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, onnxruntime.InferenceSession]:
    folder = tmp_path_factory.mktemp("forms")
    return {name: session(write(name, files, folder / f"{name}.onnx")) for name in NAMES}


def session(path: Path, **entries: object) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for name, value in entries.items():
        setattr(options, name, value)
    return onnxruntime.InferenceSession(str(path), options)


def ask(
    form: onnxruntime.InferenceSession, images: np.ndarray, thresholds: np.ndarray
) -> list[np.ndarray]:
    rank = len(next(entry.shape for entry in form.get_inputs() if entry.name == "thresholds"))
    if rank == 2 and thresholds.ndim == 1:
        thresholds = np.tile(thresholds, (len(images), 1))
    return form.run(OUTPUTS, {"images": images, "thresholds": thresholds})


def plain(engine: Engine, image: np.ndarray, thresholds: np.ndarray) -> tuple[list[float], int]:
    """Return probabilities and exit of one image [3, 8, 8], in Python's own numbers."""
    hidden = image[None]
    for k, segment in enumerate(engine.segments):
        logits, onward = segment.run(hidden)
        scaled = [float(z) / TEMPERATURES[k] for z in logits[0]]
        weights = [math.exp(z - max(scaled)) for z in scaled]
        shares = [weight / sum(weights) for weight in weights]
        if onward is None or max(shares) >= thresholds[k]:
            return shares, EXITS[k]
        hidden = onward
    raise AssertionError("the last segment hands nothing on")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 2, 9, 40])
def test_a_form_answers_like_one_image_at_a_time(
    name: str, batch: int, forms: dict[str, onnxruntime.InferenceSession], engine: Engine
) -> None:
    images, thresholds = hand_made.images(40), np.array([0.75, 0.85], dtype=np.float32)
    expected = [plain(engine, image, thresholds) for image in images]
    counts = [sum(exit == number for _, exit in expected) for number in EXITS]
    assert min(counts) >= 5, counts  # else this would say little
    for start in range(0, len(images), batch):
        rows = slice(start, start + batch)
        probabilities, confidence, exits = ask(forms[name], images[rows], thresholds)
        assert exits.tolist() == [exit for _, exit in expected[rows]]
        wanted = np.array([shares for shares, _ in expected[rows]])
        np.testing.assert_allclose(probabilities, wanted, atol=1e-6)
        np.testing.assert_allclose(confidence, wanted.max(axis=1), atol=1e-6)


def test_every_row_may_have_thresholds_of_its_own(
    forms: dict[str, onnxruntime.InferenceSession], engine: Engine
) -> None:
    images = hand_made.images(30, seed=1)
    thresholds = np.random.default_rng(0).uniform(0.2, 1.0, (30, 2)).astype(np.float32)
    expected = [plain(engine, image, own)[1] for image, own in zip(images, thresholds, strict=True)]
    assert set(expected) == set(EXITS)
    assert ask(forms["rows"], images, thresholds)[2].tolist() == expected


@pytest.mark.parametrize("name", NAMES)
def test_an_image_on_the_threshold_leaves_and_one_a_step_below_stays(
    name: str, forms: dict[str, onnxruntime.InferenceSession]
) -> None:
    images = hand_made.images(1)
    confidence = ask(forms[name], images, np.array([0, 0], dtype=np.float32))[1][0]
    above = np.nextafter(confidence, np.float32(2))
    for first, exit in ((confidence, 1), (above, 2)):
        thresholds = np.array([first, 0], dtype=np.float32)
        assert ask(forms[name], images, thresholds)[2].tolist() == [exit]


@pytest.mark.parametrize("name", NAMES)
def test_the_deepest_exit_always_answers(
    name: str, forms: dict[str, onnxruntime.InferenceSession]
) -> None:
    images = hand_made.images(3)
    images[1] = np.nan  # a confidence that is not a number reaches no threshold
    probabilities, confidence, exits = ask(forms[name], images, np.array([2, 2], dtype=np.float32))
    assert exits.tolist() == [4, 4, 4]
    zero = np.array([0, 0], dtype=np.float32)
    probabilities, confidence, exits = ask(forms[name], images, zero)
    assert exits.tolist() == [1, 4, 1]
    assert np.isnan(confidence).tolist() == [False, True, False]
    assert np.isnan(probabilities).any(axis=1).tolist() == [False, True, False]


@pytest.mark.parametrize("name", ["cascade", "rows", "all"])
def test_no_images_are_no_answers(
    name: str, forms: dict[str, onnxruntime.InferenceSession]
) -> None:
    images, thresholds = hand_made.images(0), np.array([0.5, 0.5], dtype=np.float32)
    shapes = [answer.shape for answer in ask(forms[name], images, thresholds)]
    assert shapes == [(0, CLASSES), (0,), (0,)]


def test_all_gives_every_exits_logits(
    forms: dict[str, onnxruntime.InferenceSession], engine: Engine
) -> None:
    hidden = images = hand_made.images(6)
    feed = {"images": images, "thresholds": np.array([0.5, 0.5], dtype=np.float32)}
    (found,) = forms["all"].run(["logits"], feed)
    assert found.shape == (3, 6, CLASSES)
    for k, segment in enumerate(engine.segments):
        logits, onward = segment.run(hidden)
        np.testing.assert_allclose(found[k], logits, atol=1e-5)
        hidden = hidden if onward is None else onward


@pytest.mark.parametrize("name", NAMES)
def test_what_a_form_takes_and_answers(
    name: str, forms: dict[str, onnxruntime.InferenceSession]
) -> None:
    thresholds = ["batch", 2] if name == "rows" else [2]
    assert [(entry.name, entry.type, entry.shape) for entry in forms[name].get_inputs()] == [
        ("images", "tensor(float)", ["batch", 3, 8, 8]),
        ("thresholds", "tensor(float)", thresholds),
    ]
    logits = [("logits", "tensor(float)", [3, "batch", CLASSES])] if name == "all" else []
    assert [(entry.name, entry.type, entry.shape) for entry in forms[name].get_outputs()] == [
        ("probabilities", "tensor(float)", ["batch", CLASSES]),
        ("confidence", "tensor(float)", ["batch"]),
        ("exit", "tensor(int64)", ["batch"]),
        *logits,
    ]


@pytest.mark.parametrize("name", FORMS)
def test_a_single_exit_takes_no_thresholds(
    name: str, files: list[Path], engine: Engine, tmp_path: Path
) -> None:
    FORMS[name](files[2:], (4,), (1.9,), tmp_path / "form.onnx", {})
    form = session(tmp_path / "form.onnx")
    assert [entry.name for entry in form.get_inputs()] == ["images"]
    hidden = np.random.default_rng(0).standard_normal((5, 6, 4, 4), dtype=np.float32)
    probabilities, confidence, exits = form.run(OUTPUTS, {"images": hidden})
    logits = engine.segments[2].run(hidden)[0].astype(np.float64) / 1.9
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, wanted, atol=1e-6)
    np.testing.assert_allclose(confidence, wanted.max(axis=1), atol=1e-6)
    assert exits.tolist() == [4] * 5
