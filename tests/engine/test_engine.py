from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exitkit import bundle
from exitkit.engine import ort
from exitkit.engine.engine import Engine, all_logits, gather
from exitkit.engine.session import OrtSegment
from exitkit.errors import ConfigError, EngineError
from exitkit.policy import criteria
from exitkit.policy.policy import Policy

# Kernels may be chosen by batch size, so sums may be rounded in another order.
TOLERANCE = 1e-5


def simulate(
    policy: Policy, table: np.ndarray, thresholds: np.ndarray, last: np.ndarray
) -> tuple[list[int], list[bool]]:
    """Walk each image down the table of all exits; say where a threshold is too near to tell."""
    taken, near = [], []
    for i in range(table.shape[1]):
        close = False
        for k, number in enumerate(policy.exits):
            confidence = criteria.max_probability(table[k, i : i + 1], policy.temperatures[k])[0]
            if k == len(policy.exits) - 1 or number >= last[i]:
                break
            close |= abs(confidence - thresholds[i, k]) < TOLERANCE
            if confidence >= np.float32(thresholds[i, k]):
                break
        taken.append(number)
        near.append(bool(close))
    return taken, near


def test_every_exit_is_asked_about_every_image(
    engine: Engine, images: np.ndarray, table: np.ndarray
) -> None:
    np.testing.assert_array_equal(all_logits(engine.segments, images), table)
    alone = Engine(engine.segments[:1], Policy(engine.policy.network, (1,), (), (1.0,)))
    assert all_logits(alone.segments, images[:1]).shape == (1, 1, 5)


def check(engine: Engine, images: np.ndarray, table: np.ndarray, **settings: object) -> list[int]:
    n, policy = len(images), engine.policy
    thresholds = np.broadcast_to(settings.get("thresholds", policy.thresholds), (n, 2))
    last = np.broadcast_to(settings.get("max_exit", 3), (n,))
    answers = engine.answer(images, **settings)
    taken, near = simulate(policy, table, thresholds, last)
    assert sum(near) < n / 4
    for i in range(n):
        if near[i]:
            continue
        assert answers.exit[i] == taken[i]
        k = policy.exits.index(taken[i])
        assert np.allclose(answers.logits[i], table[k, i], atol=TOLERANCE, rtol=1e-4)
        assert answers.label[i] == answers.logits[i].argmax()
        confidence = criteria.max_probability(answers.logits[i : i + 1], policy.temperatures[k])
        assert answers.probability[i] == pytest.approx(confidence[0], abs=1e-6)
    return answers.exit.tolist()


def test_every_image_leaves_where_the_table_of_all_exits_says(engine, images, table) -> None:
    taken = check(engine, images, table)
    assert set(taken) == {1, 2, 3}


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.6, 0.8, 0.95, 1.0])
def test_at_any_threshold(engine, images, table, threshold: float) -> None:
    check(engine.with_policy(engine.policy.with_threshold(threshold)), images, table,
          thresholds=[threshold] * 2)  # fmt: skip


def test_thresholds_per_row(engine, images, table) -> None:
    thresholds = np.random.default_rng(1).uniform(0.2, 1.0, (len(images), 2))
    taken = check(engine, images, table, thresholds=thresholds.astype(np.float32))
    assert set(taken) == {1, 2, 3}


def test_latest_exit_per_row_and_for_all(engine, images, table) -> None:
    last = np.random.default_rng(2).integers(1, 4, len(images))
    never = np.ones((len(images), 2), dtype=np.float32)
    assert check(engine, images, table, thresholds=never, max_exit=last) == last.tolist()
    assert set(check(engine, images, table, max_exit=1)) == {1}
    assert set(check(engine, images, table, max_exit=2)) == {1, 2}


def test_an_answer_does_not_depend_on_its_batch(engine, images) -> None:
    together = engine.answer(images)
    order = np.random.default_rng(3).permutation(len(images))
    shuffled = engine.answer(images[order])
    alone = [engine.answer(images[i : i + 1]) for i in range(len(images))]
    for i, one in enumerate(alone):
        place = int(np.flatnonzero(order == i)[0])
        for answers, row in ((one, 0), (shuffled, place)):
            assert answers.exit[row] == together.exit[i]
            assert answers.label[row] == together.label[i]
            assert np.allclose(answers.logits[row], together.logits[i], atol=TOLERANCE, rtol=1e-4)


def test_no_image_gets_no_answer(engine, images) -> None:
    answers = engine.answer(images[:0])
    assert answers.label.shape == answers.exit.shape == answers.probability.shape == (0,)
    assert answers.logits.shape == (0, 5)
    assert engine.answer(images[:0], thresholds=np.zeros((0, 2))).exit.shape == (0,)


class Counting:
    """A segment that remembers what it was given."""

    def __init__(self, segment: OrtSegment) -> None:
        self.segment, self.given, self.gave = segment, [], []
        self.exit, self.input_shape, self.classes = segment.exit, segment.input_shape, 5
        self.pool, self.threads = segment.pool, segment.threads

    def run(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        self.given.append(hidden)
        self.gave.append(self.segment.run(hidden))
        return self.gave[-1]


@pytest.fixture
def counting(engine: Engine) -> Engine:
    return Engine([Counting(segment) for segment in engine.segments], engine.policy)


def test_only_the_rows_that_stay_are_run(counting, images) -> None:
    # Of four images one leaves at exit 1, two at exit 2, one at exit 3.
    counting.answer(images[:4], thresholds=np.ones((4, 2)), max_exit=[2, 1, 3, 2])
    first, second, third = (segment.given[0] for segment in counting.segments)
    assert [len(first), len(second), len(third)] == [4, 3, 1]
    assert (second == counting.segments[0].gave[0][1][[0, 2, 3]]).all()
    assert (third == counting.segments[1].gave[0][1][[1]]).all()


def test_nothing_is_copied_where_nobody_leaves(counting, images) -> None:
    counting.answer(images[:4], thresholds=[1.0, 1.0], max_exit=3)
    assert counting.segments[0].given[0].base is images
    assert counting.segments[1].given[0] is counting.segments[0].gave[0][1]
    assert counting.segments[2].given[0] is counting.segments[1].gave[0][1]


def test_rows_of_several_batches_are_gathered_in_their_order() -> None:
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((n, 2, 3), dtype=np.float32) for n in (4, 3))
    assert gather([(a, None)]) is a  # nothing to copy
    np.testing.assert_array_equal(gather([(a, np.array([3, 1]))]), a[[3, 1]])
    np.testing.assert_array_equal(gather([(a, None), (b, None)]), np.concatenate([a, b]))
    found = gather([(b, np.array([2, 0])), (a, None), (b, np.array([1]))])
    np.testing.assert_array_equal(found, np.concatenate([b[[2, 0]], a, b[[1]]]))
    with pytest.raises(ValueError, match="does not match"):
        gather([(a, np.array([0])), (a[:, :1], np.array([0]))])


def test_nothing_is_run_once_everybody_has_left(counting, images) -> None:
    counting.answer(images[:4], thresholds=[0.0, 0.0])
    assert [len(segment.given) for segment in counting.segments] == [1, 0, 0]


def test_a_bundle_with_some_of_the_exits(make_bundle: Callable[..., Path], images) -> None:
    folder = make_bundle(exits=(2, 3))
    with pytest.raises(EngineError, match=r"exit 2 expects float32 \[n, 3, 8, 8\]"):
        load(folder).answer(np.zeros((2, 4, 8, 8), dtype=np.float32))
    assert set(load(folder).answer(images).exit.tolist()) <= {2, 3}


def test_a_bundle_with_the_deepest_exit_only(make_bundle: Callable[..., Path], images) -> None:
    answers = load(make_bundle(exits=(3,))).answer(images)
    assert answers.exit.tolist() == [3] * len(images)


def load(folder: Path) -> Engine:
    return Engine(
        ort.load(folder, bundle.read_manifest(folder), threads=1),
        Policy.read(folder / bundle.POLICY),
    )


def test_images_of_another_shape_or_type_are_refused(engine, images) -> None:
    with pytest.raises(EngineError, match=r"got float64 \[64, 3, 8, 8\]"):
        engine.answer(images.astype(np.float64))
    with pytest.raises(EngineError, match=r"got float32 \[64, 3, 8, 4\]"):
        engine.answer(images[..., :4])


def test_settings_that_do_not_fit_are_refused(engine, images) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        engine.answer(images, thresholds=[0.5, 2.0])
    with pytest.raises(ConfigError, match="max_exit 7"):
        engine.answer(images, max_exit=7)
    with pytest.raises(EngineError, match=r"segments for exits \(1, 2\)"):
        Engine(engine.segments[:2], engine.policy)


def test_an_answer_that_is_not_finite_is_refused(engine, images) -> None:
    broken = images.copy()
    broken[5] = np.nan
    with pytest.raises(EngineError, match="not finite"):
        engine.answer(broken)
