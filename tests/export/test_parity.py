"""The gate refuses what decides otherwise; it starts from files and ends with answers."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_library
import pytest
import torch
from onnx import numpy_helper
from tiny_network import network

from exitkit import images
from exitkit.bundle import Manifest, Segment
from exitkit.data.split import Tune
from exitkit.engine.engine import Answers, Engine
from exitkit.errors import DataError, ParityError
from exitkit.export import parity, trained
from exitkit.export.agreement import Comparison
from exitkit.export.limits import LIMITS
from exitkit.export.onnx import OnnxFile
from exitkit.export.parity import Parity
from exitkit.export.precision import change
from exitkit.images import ImageSpec
from exitkit.models.exitnet import ExitNet
from exitkit.policy import criteria
from exitkit.policy.policy import Policy

SPEC = ImageSpec(8, 8, (0.5, 0.4, 0.3), (0.25, 0.25, 0.25))
POLICY = Policy("n", (2, 3), (0.5,), (1.0, 1.5))


def split(count: int) -> Tune:
    pixels = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    pixels = pixels.to(torch.uint8)

    def encoded(row: int) -> bytes:
        return images.encode_png(np.ascontiguousarray(pixels[row].numpy().transpose(1, 2, 0)))

    return Tune(pixels, torch.zeros(count, dtype=torch.int64), torch.arange(count), encoded)


def compared(net: ExitNet, folder: Path, manifest: Manifest, data: Tune) -> Parity:
    reference = trained.reference(net, manifest.exits, data, manifest.image)
    return parity.check(folder, manifest, POLICY, reference)


@pytest.fixture
def exported(tiny_files: list[OnnxFile]) -> tuple[Path, Manifest]:
    shapes = ((3, 8, 8), (6, 4, 4))
    rows = tuple(Segment(k, f"segment_{k}.onnx", s, 1) for k, s in zip((2, 3), shapes, strict=True))
    manifest = Manifest("m", "n", "tiny", "deep", tuple("abcde"), SPEC, rows, 1, {}, {})
    return tiny_files[0].path.parent, manifest


def test_an_honest_export_passes_from_encoded_files_to_answers(
    exported: tuple[Path, Manifest],
) -> None:
    found = compared(network().eval(), *exported, split(150))
    found.require()
    assert (found.split, found.images, found.input_difference) == ("tune", 150, 0.0)
    assert len(found.thresholds) == 10
    assert [row.exit for row in found.exits] == [2, 3]
    assert sum(row.decisions for row in found.exits) == 11 * 150  # deciles, the policy, the engine
    table = found.to_json()
    assert table["passed"] is True
    assert table["exits"][0]["difference"] < table["exits"][0]["limit"]
    assert [row["exit"] for row in found.rows()] == [2, 3]


def test_at_most_a_thousand_images_are_taken_from_the_whole_split(
    exported: tuple[Path, Manifest],
) -> None:
    plain, asked = split(1500), []

    def encoded(row: int) -> bytes:
        asked.append(row)
        return plain.encoded(row)

    data = dataclasses.replace(plain, encoded=encoded)
    found = compared(network().eval(), *exported, data)
    assert found.images == len(set(asked)) == 1000
    assert (min(asked), max(asked)) == (0, 1499)
    found.require()


@pytest.mark.parametrize("exit_number", [2, 3])
def test_one_altered_weight_is_found(
    exported: tuple[Path, Manifest], tmp_path: Path, exit_number: int
) -> None:
    folder, manifest = exported
    for segment in manifest.segments:
        model = onnx_library.load(folder / segment.file)
        if segment.exit == exit_number:
            bias = next(w for w in model.graph.initializer if w.name.endswith("classifier.bias"))
            values = numpy_helper.to_array(bias).copy()
            values[0] += 0.01
            bias.CopyFrom(numpy_helper.from_array(values, bias.name))
        onnx_library.save(model, tmp_path / segment.file)
    found = compared(network().eval(), tmp_path, manifest, split(100))
    with pytest.raises(
        ParityError, match=rf"exit {exit_number}: a logit is off by 0\.01 "
    ) as caught:
        found.require()
    assert caught.value.exit_code == 1
    assert found.to_json()["passed"] is False
    others = [row for row in found.exits if row.exit != exit_number]
    assert all(row.failures == () for row in others if row.exit == 2)


def test_a_preprocessing_that_is_off_by_one_grey_level_is_found(
    exported: tuple[Path, Manifest],
) -> None:
    folder, manifest = exported
    honest = split(100)

    def encoded(row: int) -> bytes:
        pixels = honest.pixels[row].numpy().transpose(1, 2, 0)
        return images.encode_png(np.ascontiguousarray(np.maximum(pixels, 1) - 1))

    data = dataclasses.replace(honest, encoded=encoded)
    found = compared(network().eval(), folder, manifest, data)
    # One grey level is 1 / 255 / 0.25.
    assert found.input_difference == pytest.approx(0.015686, abs=1e-5)
    with pytest.raises(ParityError, match="a logit is off by"):
        found.require()


def test_another_network_is_found(exported: tuple[Path, Manifest]) -> None:
    found = compared(network(seed=1).eval(), *exported, split(100))
    assert any("decisions take another exit" in text for text in found.failures)
    assert any("images get another class" in text for text in found.failures)


def test_answers_given_to_the_wrong_rows_are_found(
    exported: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Engine.answer

    def mixed_up(self: Engine, *args: Any, **options: Any) -> Answers:
        answers = honest(self, *args, **options)
        return dataclasses.replace(answers, exit=np.roll(answers.exit, 1))

    monkeypatch.setattr(Engine, "answer", mixed_up)
    found = compared(network().eval(), *exported, split(100))
    *exits, raw, one = found.failures
    assert all("decisions take another exit" in text for text in exits)
    assert {text[:6] for text in exits} == {"exit 2", "exit 3"}
    assert "of 1100 decisions differ, those near a threshold counted too (limit 1%)" in raw
    assert "of 100 images are decided otherwise at one setting" in one
    assert found.otherwise[:-1] == (0,) * 10  # only the engine's answers are wrong


def test_a_wide_tolerance_does_not_open_the_gate(exported: tuple[Path, Manifest]) -> None:
    folder, manifest = exported
    answers = trained.reference(network().eval(), manifest.exits, split(100), SPEC)
    other = np.roll(answers.logits, 1, axis=1)  # what the network said about the image before
    other[:, 0, 0] = -1e6  # one logit, and "off by 1e-4 of the largest" is a wide door
    segments = dataclasses.replace(answers, logits=other)
    found = parity.check(folder, manifest, POLICY, segments)
    assert found.near > 0.9 * found.decisions
    with pytest.raises(ParityError, match="decisions differ, those near a threshold counted too"):
        found.require()


@pytest.mark.parametrize(("precision", "group", "most"), [("float32", 60, 16), ("int8", 300, 120)])
def test_a_group_on_the_policys_threshold_may_not_change_sides(
    precision: str, group: int, most: int
) -> None:
    # Exit 2 says the same of a group of images; the policy lets exactly that confidence leave.
    margins = np.random.default_rng(0).uniform(0, 2, 1000)
    margins[:group] = 1.9
    early = np.stack([margins, np.zeros(1000)], axis=1)
    logits = np.stack([early, 3 * early]).astype(np.float32)
    threshold = float(criteria.max_probability(logits[0, :1], 1.0)[0])
    policy = Policy("n", (2, 3), (threshold,), (1.0, 1.5))
    exported = logits.copy()
    exported[0, :group, 0] -= np.float32(1e-4)
    comparison = Comparison(logits, exported, policy, LIMITS[precision])
    levels = comparison.levels()
    decisions = [comparison.by_logits(level) for level in levels]
    rows, otherwise = comparison.rows(decisions), tuple(map(comparison.different, decisions))
    found = Parity("tune", 1000, 0.0, tuple(map(tuple, levels)), otherwise, rows, ())
    assert found.raw_different < rows[0].limits.raw * found.decisions  # few of all there are
    assert found.failures == (
        f"{group} of 1000 images are decided otherwise at one setting of thresholds, those near "
        f"it counted too (limit {most})",
    )


def test_accuracy_is_held_against_the_labels(exported: tuple[Path, Manifest]) -> None:
    net, data = network().eval(), split(100)
    said = trained.reference(net, (2, 3), data, SPEC).logits[0].argmax(axis=1)
    right = np.arange(100) % 4 > 0
    labels = torch.from_numpy(np.where(right, said, said + 1))
    found = compared(net, *exported, dataclasses.replace(data, labels=labels))
    first = found.accuracy[0]
    assert (first.exit, first.before, first.after) == (2, 0.75, 0.75)
    row = found.rows()[0]
    assert (row["accuracy before"], row["accuracy after"]) == (0.75, 0.75)
    assert found.failures == ()
    # Ten lost of a hundred: three standard errors are 9.49 points.
    lost = change.by_exit(
        (2,),
        -np.eye(2)[None, [1] * 100],
        -np.eye(2)[None, [0] * 10 + [1] * 90],
        np.zeros(100, np.int64),
        LIMITS["float32"],
        parity.STANDARD_ERRORS,
    )
    assert dataclasses.replace(found, accuracy=lost).failures == (
        "exit 2: 10.00 points of accuracy are lost (limit 9.49)",
    )


def test_one_image_lies_on_each_threshold_that_export_chose() -> None:
    assert LIMITS["float32"].at_one_setting(10, thresholds=2) == 2
    assert LIMITS["float32"].at_one_setting(10, thresholds=0) == 0


def test_the_policys_own_thresholds_are_asked(exported: tuple[Path, Manifest]) -> None:
    found = compared(network().eval(), *exported, split(100))
    assert (np.float32(0.5),) in found.thresholds


def test_a_split_without_images_is_refused(exported: tuple[Path, Manifest]) -> None:
    with pytest.raises(DataError, match="parity on the tune split: it has no images"):
        compared(network().eval(), *exported, split(0))
