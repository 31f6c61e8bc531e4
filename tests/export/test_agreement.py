import numpy as np
import pytest

from exitkit.export.agreement import Comparison, Decisions
from exitkit.policy import solvers
from exitkit.policy.policy import Policy
from exitkit.scores import Scores

# Two exits, four images, two classes. Confidences of exit 1 at temperature 1 are 1 / (1 + e^-m)
# for a margin m: 0.5, 0.880797, 0.982014, 0.731059.
TRAINED = np.array(
    [[[0, 0], [2, 0], [0, 4], [1, 0]], [[3, 0], [0, 3], [0, 3], [3, 0]]], dtype=np.float32
)
POLICY = Policy("n", (2, 4), (0.5,), (1.0, 1.0))
EXITS, LABELS = np.array([4, 4, 2, 4]), np.array([0, 1, 1, 0])


def level(threshold: float) -> np.ndarray:
    return np.full((4, 1), threshold, dtype=np.float32)


def test_logits_may_be_off_by_a_ten_thousandth_of_the_largest() -> None:
    comparison = Comparison(TRAINED, TRAINED + np.float32(3e-4), POLICY)
    first, second = comparison.rows([])
    assert first.scale == 4.0
    assert first.limit == pytest.approx(4e-4)
    assert first.difference == pytest.approx(3e-4, rel=1e-3)
    assert first.failures == ()
    assert second.limit == pytest.approx(3e-4)
    first, second = Comparison(TRAINED, TRAINED + np.float32(5e-4), POLICY).rows([])
    assert first.failures == ("exit 2: a logit is off by 0.0005 (limit 0.0004)",)
    assert second.failures == ("exit 4: a logit is off by 0.0005 (limit 0.0003)",)


def test_a_logit_that_is_no_number_fails() -> None:
    broken = TRAINED.copy()
    broken[1, 2, 0] = np.nan
    first, second = Comparison(TRAINED, broken, POLICY).rows([])
    assert first.failures == ()
    assert "off by nan" in second.failures[0]


def test_another_class_counts_unless_the_classes_are_tied() -> None:
    swapped = TRAINED[:, :, ::-1].copy()
    first, second = Comparison(TRAINED, swapped, POLICY).rows([])
    assert (first.ties, first.top1_different) == (1, 3)  # image 0 has two equal logits
    assert (second.ties, second.top1_different) == (0, 4)
    assert "exit 2: 3 of 4 images get another class" in first.failures


def test_an_image_on_the_threshold_is_counted_apart() -> None:
    comparison = Comparison(TRAINED, TRAINED, POLICY)
    # How near is near at 0.88: 2 x 4e-4 x 0.88 x 0.12 = 8.4e-5.
    taken, near = comparison.trained(level(0.8808))
    assert taken.tolist() == [1, 1, 0, 1]
    assert near.tolist() == [False, True, False, False]
    assert comparison.trained(level(0.8809))[1].tolist() == [False, False, False, False]
    # Image 0 leaves at exit 2 now, where its two classes are tied.
    taken, near = comparison.trained(level(0.4))
    assert taken.tolist() == [0, 0, 0, 0]
    assert near.tolist() == [True, False, False, False]


def test_decisions_are_counted_where_the_trained_network_leaves() -> None:
    comparison = Comparison(TRAINED, TRAINED, POLICY)
    first, second = comparison.rows([Decisions(level(0.9), EXITS, LABELS)])
    assert (first.decisions, first.near, first.exit_different, first.label_different) == (
        1,
        0,
        0,
        0,
    )
    assert (second.decisions, second.exit_different, second.label_different) == (3, 0, 0)

    wrong_exits, wrong_labels = np.array([4, 4, 4, 2]), np.array([1, 1, 1, 0])
    first, second = comparison.rows([Decisions(level(0.9), wrong_exits, wrong_labels)])
    assert first.failures == ("exit 2: 1 of 1 decisions take another exit",)
    assert second.failures == (
        "exit 4: 1 of 3 decisions take another exit",
        "exit 4: 1 of 3 decisions give another label",
    )


def test_every_exit_is_compared_at_its_own_deciles() -> None:
    # Margins whose confidences are 0.50, 0.51 ... 0.99.
    confidence = np.linspace(0.5, 0.99, 50)
    margins = np.log(confidence / (1 - confidence))
    logits = np.stack([margins, np.zeros(50)], axis=1).astype(np.float32)
    levels = Comparison(np.stack([logits, logits]), np.stack([logits, logits]), POLICY).levels()
    assert levels.shape == (9, 1)
    np.testing.assert_allclose(levels[:, 0], np.linspace(0.549, 0.941, 9), atol=1e-6)


def test_a_single_exit_has_one_setting_without_thresholds() -> None:
    comparison = Comparison(TRAINED[:1], TRAINED[:1], Policy("n", (2,), (), (1.0,)))
    (setting,) = comparison.levels()
    assert setting.shape == (0,)
    made = comparison.by_logits(setting)
    assert (made.exit.tolist(), made.label.tolist()) == ([2, 2, 2, 2], [0, 0, 1, 0])
    (row,) = comparison.rows([made])
    assert (row.decisions, row.near, row.failures) == (4, 1, ())


@pytest.mark.parametrize("seed", range(5))
def test_noise_within_the_limit_never_counts_as_disagreement(seed: int) -> None:
    random = np.random.default_rng(seed)
    trained = random.normal(0, 3, (3, 2000, 10)).astype(np.float32)
    limit = 1e-4 * np.abs(trained).max(axis=(1, 2), keepdims=True)
    noise = random.choice([-0.99, 0.99], trained.shape) * limit
    exported = trained + noise.astype(np.float32)
    policy = Policy("n", (1, 2, 4), (0.5, 0.5), (0.3, 1.0, 2.0))
    comparison = Comparison(trained, exported, policy)
    decisions = [comparison.by_logits(thresholds) for thresholds in comparison.levels()]
    rows = comparison.rows(decisions)
    assert [row.failures for row in rows] == [(), (), ()]
    assert sum(row.decisions for row in rows) == 9 * 2000
    assert 0 < sum(row.near for row in rows) < 0.02 * 9 * 2000
    # The same decisions, asked of a policy.
    for made in decisions:
        own = Policy("n", (1, 2, 4), tuple(made.thresholds[0].tolist()), policy.temperatures)
        assert np.array_equal(comparison.trained(made.thresholds)[0], _taken(trained, own))
        assert np.array_equal(made.exit, np.array([1, 2, 4])[_taken(exported, own)])


def _taken(logits: np.ndarray, policy: Policy) -> np.ndarray:
    n = logits.shape[1]
    table = Scores(
        "tune", "n", policy.exits, np.zeros(3), logits, np.zeros(n, np.int64), np.arange(n)
    )
    return solvers.exits_taken(table, policy)
