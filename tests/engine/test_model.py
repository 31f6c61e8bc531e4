import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import exitkit
from exitkit import bundle, images
from exitkit.engine.model import Model
from exitkit.errors import BadImage, BundleError, ConfigError
from exitkit.policy.policy import Policy

CLASSES = ("cat", "dog", "eel", "fox", "gnu")


@pytest.fixture(scope="module")
def model(tiny: Path) -> Model:
    return exitkit.load(tiny, threads=1)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def test_arrays_pil_images_paths_and_files_get_the_same_answers(
    model: Model, pictures: np.ndarray, tmp_path: Path
) -> None:
    paths = []
    for i, pixels in enumerate(pictures):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    expected = model.predict(pictures)
    forms = {
        "arrays": list(pictures),
        "pil": [Image.fromarray(p) for p in pictures],
        "paths": paths,
        "names": [str(p) for p in paths],
        "files": [p.read_bytes() for p in paths],
        "opened": [Image.open(p) for p in paths],
        "generator": (p for p in pictures),
    }
    for name, form in forms.items():
        found = model.predict(form)
        assert [dataclasses.replace(p, ms=0.0) for p in found] == [
            dataclasses.replace(p, ms=0.0) for p in expected
        ], name


def test_a_prediction_is_the_engines_answer(model: Model, pictures: np.ndarray) -> None:
    answers = model.engine.answer(images.normalise(pictures, model.manifest.image))
    found = model.predict(pictures)
    assert [p.label for p in found] == [CLASSES[label] for label in answers.label]
    assert [p.exit for p in found] == answers.exit.tolist()
    assert [p.probability for p in found] == answers.probability.tolist()
    assert all(p.ms > 0 for p in found)


def test_batches_change_nothing(model: Model, pictures: np.ndarray) -> None:
    whole = model.predict(pictures)
    for size in (1, 2, 5, 100):
        found = model.predict(pictures, batch_size=size)
        assert [(p.label, p.exit) for p in found] == [(p.label, p.exit) for p in whole]
    assert model.predict([]) == []


def test_images_of_any_size_and_grey_ones(model: Model) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (30, 17), dtype=np.uint8)
    coloured = np.repeat(grey[:, :, None], 3, axis=2)
    found = model.predict([grey, coloured, Image.fromarray(grey)])
    assert len({(p.label, p.exit, p.probability) for p in found}) == 1


def test_threshold_and_latest_exit(tiny: Path, pictures: np.ndarray) -> None:
    assert {p.exit for p in exitkit.load(tiny, threshold=0.0, threads=1).predict(pictures)} == {1}
    careful = exitkit.load(tiny, threshold=1.0, threads=1)
    assert {p.exit for p in careful.predict(pictures)} == {3}
    assert {p.exit for p in careful.predict(pictures, max_exit=2)} == {2}
    assert careful.policy.thresholds == (1.0, 1.0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        exitkit.load(tiny, threshold=1.5)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((8, 8, 4), np.uint8), r"image 1: uint8 array of shape \(8, 8, 4\)"),
        (np.zeros((8, 8, 3), np.float32), "image 1: float32 array"),
        (np.zeros((0, 8, 3), np.uint8), "image 1: uint8 array"),
        (3, "image 1: is a int"),
        (Image.new("RGBA", (8, 8), (1, 2, 3, 0)), "image 1: has an alpha channel"),
        (Image.new("F", (8, 8)), "image 1: has mode F"),
        (b"no image", "image 1: cannot be decoded"),
    ],
)
def test_what_is_no_image_is_named(
    model: Model, pictures: np.ndarray, picture: object, message: str
) -> None:
    with pytest.raises(BadImage, match=message):
        model.predict([pictures[0], picture])


def test_a_damaged_file_is_named(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(images.encode_png(np.zeros((8, 8, 3), np.uint8))[:40])
    with pytest.raises(BadImage, match=r"broken\.png"):
        model.predict([path])
    whole = images.encode_png(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))
    path.write_bytes(whole[: len(whole) // 2])
    with Image.open(path) as opened, pytest.raises(BadImage, match="image 0: cannot be decoded"):
        model.predict([opened])


def test_one_image_instead_of_several_is_refused(model: Model, pictures: np.ndarray) -> None:
    for one in (pictures[0], "a.png", Path("a.png"), Image.fromarray(pictures[0]), b"bytes"):
        with pytest.raises(ConfigError, match="put it into a list"):
            model.predict(one)
    with pytest.raises(ConfigError, match="batch size 0"):
        model.predict(pictures, batch_size=0)


def test_a_bundle_by_name_and_the_latest(make_bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_bundle("digits")
    monkeypatch.chdir(folder.parent.parent)
    assert exitkit.load("digits").folder == folder
    with pytest.raises(BundleError, match="bundle latest: not in bundles"):
        exitkit.load()
    (folder.parent / "latest").symlink_to("digits")
    assert exitkit.load().folder == folder


def test_a_policy_of_another_network_is_refused(make_bundle) -> None:
    folder = make_bundle()
    policy = Policy.read(folder / bundle.POLICY)
    dataclasses.replace(policy, network="f" * 64).write(folder / bundle.POLICY)
    with pytest.raises(BundleError, match="belongs to network ffffffffffff"):
        exitkit.load(folder)
    (folder / bundle.POLICY).unlink()
    with pytest.raises(BundleError, match="no policy"):
        exitkit.load(folder)


def test_a_policy_can_be_replaced_on_its_own(make_bundle) -> None:
    folder = make_bundle()
    Policy.read(folder / bundle.POLICY).with_threshold(0.25).write(folder / bundle.POLICY)
    assert exitkit.load(folder, threads=1).policy.thresholds == (0.25, 0.25)


def test_an_edited_bundle_is_refused(make_bundle) -> None:
    folder = make_bundle()
    with open(folder / "segment_2.onnx", "ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"segment_2\.onnx: is truncated or was edited"):
        exitkit.load(folder)
    table = json.loads((folder / bundle.MANIFEST).read_text())
    table["schema"] = "9.0"
    (folder / bundle.MANIFEST).write_text(json.dumps(table))
    with pytest.raises(BundleError, match=r"schema 9\.0"):
        exitkit.load(folder)
