"""Where a threshold lies on the bundle's sweep, worked out by hand."""

import json
import shutil
from pathlib import Path

import httpx
import pytest
from gates import held

from exitkit import bundle
from exitkit.errors import BundleError
from exitkit.policy.policy import Policy
from exitkit.policy.solvers import Point
from exitkit.serve import tradeoff


def point(threshold: float | None, accuracy: float, macs: float, early: float) -> Point:
    return Point(threshold, accuracy, macs, (early, 1 - early), (None, None), 0.9)


SWEEP = (
    point(0.0, 0.7, 1000, 1.0),
    point(0.5, 0.8, 2000, 0.5),
    point(1.0, 0.9, 3000, 0.0),
)
CHOSEN = point(0.75, 0.88, 2400, 0.3)


def test_a_threshold_of_the_sweep_is_its_own_point() -> None:
    assert tradeoff.locate(SWEEP, CHOSEN, (0.5,)) == (SWEEP[1], True)
    assert tradeoff.locate(SWEEP, CHOSEN, (0.75,)) == (CHOSEN, True)


def test_thresholds_are_compared_as_float32() -> None:
    third = point(0.3333333432674408, 0.75, 1500, 0.75)  # the float32 nearest to a third
    assert tradeoff.locate((*SWEEP, third), None, (1 / 3,)) == (third, True)


def test_between_two_points_every_number_is_interpolated_and_marked() -> None:
    found, exact = tradeoff.locate(SWEEP, None, (0.6,))
    assert not exact
    assert found is not None
    # a fifth of the way from 0.5 to 1.0
    assert found.accuracy == pytest.approx(0.82)
    assert found.mean_macs == pytest.approx(2200)
    assert found.shares == pytest.approx((0.4, 0.6))
    assert found.exit_accuracy == (None, None)


def test_what_the_sweep_cannot_tell_is_not_guessed() -> None:
    assert tradeoff.locate(SWEEP, CHOSEN, (0.5, 0.6)) == (None, False)
    assert tradeoff.locate(SWEEP[1:], None, (0.25,)) == (None, False)
    assert tradeoff.locate((), CHOSEN, (0.75,)) == (None, False)


def test_a_single_exit_has_one_point_whatever_the_threshold() -> None:
    only = Point(0.0, 0.9, 3000, (1.0,), (0.9,), 0.9)
    assert tradeoff.locate((only,), only, ()) == (only, True)


def test_the_lines_say_which_numbers_were_computed(colours: Path) -> None:
    manifest = bundle.read_manifest(colours)
    policy = Policy.read(colours / bundle.POLICY)
    lines = tradeoff.describe(tradeoff.read(colours, manifest, policy))
    assert lines == [
        "threshold 0.6: accuracy 93.75 % (computed on the tune split)",
        "0.00 M MACs an image, 45.0 % of the plain network's 0.01 M (computed)",
        "images that leave at exit 2 37.5 %, exit 4 62.5 % (computed)",
    ]
    between = tradeoff.read(colours, manifest, policy.with_threshold(0.75))
    assert tradeoff.describe(between)[0] == (
        "threshold 0.75: accuracy 93.75 % (computed on the tune split, between two points)"
    )


@pytest.mark.parametrize(
    "damage",
    [None, "{", "[]", "{}", json.dumps({"points": [{"threshold": 1}]}), '{"points": [3]}'],
)
def test_a_damaged_sweep_is_refused(colours: Path, tmp_path: Path, damage: str | None) -> None:
    folder = shutil.copytree(colours, tmp_path / "copy")
    if damage is None:
        (folder / bundle.SWEEP).unlink()
    else:
        (folder / bundle.SWEEP).write_text(damage)
    manifest = bundle.read_manifest(folder, verify=False)
    with pytest.raises(BundleError, match=r"sweep\.json: no sweep"):
        tradeoff.read(folder, manifest, Policy.read(folder / bundle.POLICY))


def test_the_point_in_force_is_that_of_thresholds_that_load_has_lowered(colours: Path) -> None:
    with held(colours, accuracy_floor=0.8) as made:

        def found() -> dict:
            return httpx.get(f"{made.url}/tradeoff").json()

        assert (found()["in_force"], found()["exact"]) == (found()["chosen"], True)
        depth = made.service.depth
        assert depth is not None
        with depth.holding(1000, None):
            assert httpx.get(f"{made.url}/stats").json()["thresholds"] == [0.5]
            assert (found()["in_force"]["threshold"], found()["exact"]) == (0.5, True)
            assert found()["thresholds"] == [0.6]  # the policy's
