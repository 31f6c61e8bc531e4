import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitkit.errors import BundleError, ConfigError
from exitkit.policy.policy import Policy, compact, join

NETWORK = "a" * 64


def make(**changes: Any) -> Policy:
    values: dict[str, Any] = {
        "network": NETWORK,
        "exits": (1, 2, 4),
        "thresholds": (0.9, 0.6),
        "temperatures": (1.0, 1.0, 2.0),
    }
    return Policy(**{**values, **changes})


def sure(*confidences: float) -> np.ndarray:
    """Two-class logits whose larger probability is each of these."""
    p = np.array(confidences)
    return np.stack([np.log(p), np.log(1 - p)], axis=1).astype(np.float32)


def test_rows_leave_at_their_exits_threshold() -> None:
    policy = make()
    state = policy.start(3)
    leave, confidence, state = policy.step(0, sure(0.95, 0.7, 0.55), state)
    assert leave.tolist() == [True, False, False]
    assert np.allclose(confidence, [0.95, 0.7, 0.55])
    leave, _, state = policy.step(1, sure(0.7, 0.55), compact(state, np.array([1, 2])))
    assert leave.tolist() == [True, False]
    leave, _, _ = policy.step(2, sure(0.5), compact(state, np.array([1])))
    assert leave.tolist() == [True]


def test_rows_of_several_batches_are_judged_together_as_apart() -> None:
    policy = make(exits=(1, 2, 4))
    first = policy.start(2, thresholds=[[0.9, 0.0], [0.1, 0.0]], max_exit=4)
    second = policy.start(1, thresholds=[0.9, 0.0], max_exit=1)
    together = join([compact(first, np.array([1])), second, first])
    leave, _, _ = policy.step(0, sure(0.5, 0.5, 0.5, 0.5), together)
    assert leave.tolist() == [True, True, False, True]
    assert join([first]) is first


def test_the_temperature_of_the_exit_counts() -> None:
    # Odds 81 : 1 at temperature 2 are 9 : 1.
    _, confidence, _ = make().step(2, np.array([[np.log(81.0), 0.0]], np.float32), {})
    assert confidence[0] == pytest.approx(0.9)


def test_thresholds_and_latest_exits_per_row() -> None:
    policy = make()
    state = policy.start(3, thresholds=[[0.5, 0.5], [1.0, 0.5], [1.0, 1.0]], max_exit=[4, 4, 1])
    leave, _, state = policy.step(0, sure(0.7, 0.7, 0.7), state)
    assert leave.tolist() == [True, False, True]
    state = compact(state, np.array([1]))
    assert policy.step(1, sure(0.7), state)[0].tolist() == [True]


def test_one_set_of_thresholds_for_all_rows() -> None:
    state = make().start(2, thresholds=[0.2, 1.0], max_exit=2)
    assert make().step(0, sure(0.6, 0.6), state)[0].tolist() == [True, True]
    assert make().step(1, sure(0.6, 0.6), state)[0].tolist() == [True, True]  # max_exit


def test_a_state_is_compacted_with_the_same_rows() -> None:
    state = make().start(4, thresholds=np.linspace(0, 1, 8).reshape(4, 2), max_exit=[1, 2, 4, 2])
    kept = compact(state, np.array([0, 3]))
    assert np.allclose(kept["thresholds"], [[0, 1 / 7], [6 / 7, 1]])
    assert kept["last"].tolist() == [0, 1]
    assert compact(make().start(4), np.array([0, 3])) == {}


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_threshold_that_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        make().with_threshold(wrong)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        make().start(1, thresholds=[0.5, wrong])


@pytest.mark.parametrize("thresholds", [[0.5], [0.5] * 3, [[0.5, 0.5]], 0.5])
def test_thresholds_of_another_shape_are_refused(thresholds: Any) -> None:
    with pytest.raises(ConfigError, match=r"give \(2,\) or \(3, 2\)"):
        make().start(3, thresholds=thresholds)


def test_an_exit_that_is_not_kept_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_exit 3: the kept exits are 1, 2, 4"):
        make().start(2, max_exit=[4, 3])
    with pytest.raises(ConfigError, match="one exit number, or 2 of them"):
        make().start(2, max_exit=[4, 4, 4])
    with pytest.raises(ConfigError, match="one exit number"):
        make().start(2, max_exit=2.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"thresholds": (0.5,)},
        {"temperatures": (1.0, 1.0)},
        {"temperatures": (1.0, 0.0, 1.0)},
        {"temperatures": (1.0, float("inf"), 1.0)},
        {"exits": (1, 4, 2)},
        {"exits": (), "thresholds": (), "temperatures": ()},
    ],
)
def test_values_that_make_no_policy_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make(**changes)


def test_with_threshold_changes_thresholds_only() -> None:
    policy = make().with_threshold(0.25)
    assert policy.thresholds == (0.25, 0.25)
    assert policy.temperatures == make().temperatures
    alone = make(exits=(4,), thresholds=(), temperatures=(1.5,)).with_threshold(0.5)
    assert alone.thresholds == ()
    with pytest.raises(ConfigError, match=r"threshold 2\.0: is no probability"):
        alone.with_threshold(2.0)


def test_it_reads_what_it_wrote(tmp_path: Path) -> None:
    policy = make(thresholds=(float(np.float32(0.1)), 1.0), temperatures=(1 / 3, 1.0, 2.0))
    policy.write(tmp_path / "policy.json")
    assert Policy.read(tmp_path / "policy.json") == policy
    assert json.loads((tmp_path / "policy.json").read_text())["criterion"] == "max_probability"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    make().write(path)
    before = path.read_bytes()
    broken = make()
    object.__setattr__(broken, "network", {"not", "json"})
    with pytest.raises(TypeError):
        broken.write(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["policy.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "2.0"}, "schema 2.0"),
        ({"criterion": "patience"}, "criterion 'patience'"),
        ({"thresholds": [0.5]}, "was edited"),
        ({"thresholds": [0.5, 7]}, "was edited"),
        ({"thresholds": None}, "was edited"),
        ({"temperatures": [1, "x", 1]}, "was edited"),
    ],
)
def test_an_edited_file_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({**make().to_json(), **change}))
    with pytest.raises(BundleError, match=message) as caught:
        Policy.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}"])
def test_what_is_no_policy_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(BundleError):
        Policy.read(path)
    with pytest.raises(BundleError, match="no policy"):
        Policy.read(tmp_path / "missing.json")


def test_a_newer_file_of_the_same_major_schema_is_read() -> None:
    assert Policy.from_json({**make().to_json(), "schema": "1.7", "note": "later"}) == make()


def test_another_networks_policy_is_refused() -> None:
    make().require(NETWORK, [1, 2, 4])
    with pytest.raises(BundleError, match="belongs to network aaaaaaaaaaaa"):
        make().require("b" * 64, [1, 2, 4])
    with pytest.raises(BundleError, match=r"exits \(1, 2, 4\)"):
        make().require(NETWORK, [2, 4])
