"""All segments converted, scored, fitted again, and held against the trained network."""

import dataclasses
from pathlib import Path

import drawn
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tiny_network import network

from exitkit import images
from exitkit.bundle import Manifest
from exitkit.data.split import Tune
from exitkit.engine import ort
from exitkit.errors import BundleError, ConfigError, DataError
from exitkit.export import fit
from exitkit.export.agreement import Comparison, ExitAgreement
from exitkit.export.limits import LIMITS
from exitkit.export.precision import calibration, change, convert, half, identity, int8, refit
from exitkit.policy.policy import Policy
from exitkit.scores import Scores

MACS = (10, 20)


@pytest.fixture(scope="module")
def plain(tiny: tuple[Path, Manifest], tune: Tune) -> Scores:
    return refit.score(*tiny, tune, MACS)


def converted(
    tiny: tuple[Path, Manifest], tune: Tune, folder: Path, precision: str
) -> tuple[Manifest, tuple[str, ...]]:
    told: list[str] = []
    notes = convert.convert(*tiny, folder, precision, tune, progress=told.append)
    files = [folder / piece.file for piece in tiny[1].segments]
    assert sorted(folder.iterdir()) == files
    assert len(told) == 2
    own = identity.digest(tiny[1].network, precision, files)
    return dataclasses.replace(tiny[1], network=own, precision=precision), notes


def agreement(
    plain: Scores, found: Scores, policy: Policy, precision: str
) -> tuple[ExitAgreement, ...]:
    comparison = Comparison(plain.logits, found.logits, policy, LIMITS[precision])
    return comparison.rows([comparison.by_logits(level) for level in comparison.levels()])


def test_hidden_batches_are_what_the_segments_before_give(
    tiny: tuple[Path, Manifest], tune: Tune
) -> None:
    segments = ort.load(*tiny)
    chosen = calibration.Images(tune, tiny[1].image)
    assert len(chosen) == 80
    batches = list(chosen)
    assert [len(batch) for batch in batches] == [16] * 5
    first = images.normalise(tune.pixels[:16].numpy().transpose(0, 2, 3, 1), tiny[1].image)
    assert np.array_equal(batches[0], first)
    assert all(
        a is b for a, b in zip(calibration.hidden(segments, 0, batches), batches, strict=True)
    )
    for ours, batch in zip(calibration.hidden(segments, 1, chosen), batches, strict=True):
        assert np.array_equal(ours, drawn.run(tiny[0] / "segment_2.onnx", batch)[1])


def test_calibration_takes_at_most_512_images_from_the_whole_split(
    tiny: tuple[Path, Manifest], tune: Tune
) -> None:
    asked: list[int] = []

    def encoded(row: int) -> bytes:
        asked.append(row)
        return tune.encoded(row % 80)

    many = dataclasses.replace(tune, index=torch.arange(1023), labels=torch.arange(1023))
    chosen = calibration.Images(dataclasses.replace(many, encoded=encoded), tiny[1].image)
    assert sum(len(batch) for batch in chosen) == 512
    assert asked == [2 * row for row in range(512)]


def test_scores_are_the_networks_own_answers(
    tiny: tuple[Path, Manifest], plain: Scores, tune: Tune
) -> None:
    with torch.no_grad():
        batches = tune.batches(80, torch.device("cpu"), tiny[1].image)
        exits = network().eval()(next(iter(batches))[0])
    trained = torch.stack([exits[1].logits, exits[2].logits]).numpy()
    np.testing.assert_allclose(plain.logits, trained, atol=1e-5)
    assert (plain.split, plain.network, plain.exits) == ("tune", "n" * 64, (2, 3))
    assert plain.macs.tolist() == [10.0, 20.0]
    assert plain.labels.tolist() == tune.labels.tolist()
    assert plain.index.tolist() == list(range(80))


def test_the_digest_names_weights_precision_and_files(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]))
    assert identity.digest("w", "float32", files) == "w"
    found = identity.digest("w", "int8", files)
    assert len(found) == 64
    others = [
        identity.digest("v", "int8", files),
        identity.digest("w", "fp16", files),
        identity.digest("w", "int8", files[::-1]),
    ]
    files[1].write_bytes(b"other")
    assert len({found, *others, identity.digest("w", "int8", files)}) == 5


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_converted_network_is_fitted_again_and_passes(
    tiny: tuple[Path, Manifest], tune: Tune, plain: Scores, tmp_path: Path, precision: str
) -> None:
    manifest, notes = converted(tiny, tune, tmp_path, precision)
    assert notes == ((half.NOTE,) if precision == "fp16" else ())
    found = refit.score(tmp_path, manifest, tune, MACS)
    before, after = fit.fit(plain, (2, 3), MACS), fit.fit(found, (2, 3), MACS)
    assert after.policy.network == manifest.network != before.policy.network
    with pytest.raises(BundleError, match="belongs to network"):
        before.policy.require(manifest.network, manifest.exits)
    changed = change.compare(plain, before.policy, found, after.policy, LIMITS[precision])
    changed.require()
    rows = agreement(plain, found, after.policy, precision)
    assert [row.failures for row in rows] == [(), ()]
    assert all(0 < row.noise < 0.1 for row in rows)
    assert all(row.decisions > row.near for row in rows)


@pytest.mark.parametrize("factor", [1e-6, 1.5])
def test_one_broken_scale_in_a_quantised_segment_is_refused(
    tiny: tuple[Path, Manifest], tune: Tune, plain: Scores, tmp_path: Path, factor: float
) -> None:
    manifest, _ = converted(tiny, tune, tmp_path, "int8")
    model = onnx.load(tmp_path / "segment_3.onnx")
    scale = next(one for one in model.graph.initializer if one.name.endswith("weight_scale"))
    values = numpy_helper.to_array(scale) * np.float32(factor)
    scale.CopyFrom(numpy_helper.from_array(values, scale.name))
    onnx.save(model, tmp_path / "segment_3.onnx")
    found = refit.score(tmp_path, manifest, tune, MACS)
    rows = agreement(plain, found, fit.fit(found, (2, 3), MACS).policy, "int8")
    assert rows[0].failures == ()
    assert "exit 3: the logits' error is" in rows[1].failures[0]


def test_signed_segments_say_where_they_are_fast(
    tiny: tuple[Path, Manifest], tune: Tune, tmp_path: Path
) -> None:
    notes = convert.convert(*tiny, tmp_path, "int8", tune, tensorrt=True)
    assert notes == (int8.TENSORRT_NOTE,)
    zeros = [a for n, a in drawn.constants(tmp_path / "segment_3.onnx").items() if "zero" in n]
    assert {array.dtype for array in zeros} == {np.dtype(np.int8)}


def test_too_few_images_and_unknown_precisions_are_refused_before_anything_is_written(
    tiny: tuple[Path, Manifest], tune: Tune, tmp_path: Path
) -> None:
    few = dataclasses.replace(tune, labels=tune.labels[:31], index=tune.index[:31])
    with pytest.raises(DataError, match="31 calibration images, at least 32 are needed"):
        convert.convert(*tiny, tmp_path, "int8", few)
    with pytest.raises(ConfigError, match="no such precision; did you mean 'int8'"):
        convert.convert(*tiny, tmp_path, "int", tune)
    assert list(tmp_path.iterdir()) == []
