import numpy as np
import pytest

from exitkit.export.agreement import Comparison, Decisions, ExitAgreement
from exitkit.export.limits import LIMITS, Limits
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
    deciles = np.linspace(0.549, 0.941, 9)
    assert levels.shape == (10, 1)  # the policy's own threshold is the first
    np.testing.assert_allclose(levels[:, 0], [POLICY.thresholds[0], *deciles], atol=1e-6)


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
    assert sum(row.decisions for row in rows) == 10 * 2000
    assert 0 < sum(row.near for row in rows) < 0.02 * 10 * 2000
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


def test_float32_stays_as_strict_as_it_was() -> None:
    assert LIMITS["float32"] == Limits("float32", 1e-4, None, 0.0, 0.0, 0.0, 1.0, 0.01)
    assert set(LIMITS) == {name == limits.precision and name for name, limits in LIMITS.items()}
    same, told = Comparison(TRAINED, TRAINED, POLICY), Decisions(level(0.9), EXITS, LABELS)
    assert same.rows([told]) == Comparison(TRAINED, TRAINED, POLICY, LIMITS["float32"]).rows([told])
    assert same.rows([])[0].noise == 0.0


def test_float16_bounds_every_logit_and_lets_no_decision_differ() -> None:
    found = Comparison(TRAINED, TRAINED + np.float32(0.015), POLICY, LIMITS["fp16"]).rows([])
    assert found[0].limit == pytest.approx(0.016)  # 0.004 of 4
    assert found[0].failures == ()
    assert found[1].failures == ("exit 4: a logit is off by 0.015 (limit 0.012)",)
    one = ExitAgreement(2, 1000, 4.0, 0.016, 0.01, 0, 1, 500, 0, 1, 1, 0.0, LIMITS["fp16"])
    assert one.failures == (
        "exit 2: 1 of 1000 images get another class",
        "exit 2: 1 of 500 decisions take another exit",
        "exit 2: 1 of 500 decisions give another label",
    )


def test_the_noise_of_int8_is_measured_against_what_tells_images_apart() -> None:
    # Two images, two classes. Without each image's and each class's mean the logits are +-2 and
    # the error, which a common shift of an image does not change, is +-0.3: 0.15.
    trained = np.array([[[12, 8], [8, 12]], [[5, 1], [1, 5]]], np.float32) + np.float32([100, 0])
    off = np.array([[[0.3, -0.3], [7.3, 6.7]], [[0, 0], [0, 0]]], np.float32)
    comparison = Comparison(trained, trained + off, POLICY, LIMITS["int8"])
    np.testing.assert_allclose(comparison.noise, [0.15, 0], rtol=1e-4)
    # A logit that is off by as much counts as the same.
    np.testing.assert_allclose(comparison.limit, [0.3, 0], rtol=1e-4)
    first, second = comparison.rows([])
    assert first.failures == ("exit 2: the logits' error is 0.15 of their spread (limit 0.1)",)
    assert second.failures == ()


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_int8_that_answers_no_numbers_fails(lost: float) -> None:
    broken = TRAINED.copy()
    broken[0, 1, 0] = lost
    first, second = Comparison(TRAINED, broken, POLICY, LIMITS["int8"]).rows([])
    assert "error is nan of their spread" in first.failures[0]
    assert second.failures == ()


def test_images_that_do_not_differ_pass_only_without_error() -> None:
    alike = np.repeat(TRAINED[:, :1], 4, axis=1)
    assert Comparison(alike, alike, POLICY, LIMITS["int8"]).noise.tolist() == [0, 0]
    other = alike + np.float32([0.1, -0.1])
    assert Comparison(alike, other, POLICY, LIMITS["int8"]).noise.tolist() == [np.inf, np.inf]
    # Where every logit is bounded nobody asks.
    assert Comparison(alike, other, POLICY).noise.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("classes", "exits", "labels", "failures"),
    [
        (20, 11, 11, ()),  # two in a hundred of 1,000 images and 500 decisions
        (21, 11, 11, ("21 of 1000 images get another class (limit 20)",)),
        (20, 12, 11, ("12 of 500 decisions take another exit (limit 11)",)),
        (20, 11, 12, ("12 of 500 decisions give another label (limit 11)",)),
    ],
)
def test_int8_lets_two_in_a_hundred_differ(
    classes: int, exits: int, labels: int, failures: tuple[str, ...]
) -> None:
    row = ExitAgreement(
        2, 1000, 4.0, 0.1, 0.2, 50, classes, 700, 200, exits, labels, 0.05, LIMITS["int8"]
    )
    assert row.failures == tuple(f"exit 2: {text}" for text in failures)


def test_of_few_images_one_may_always_differ() -> None:
    def row(classes: int, exits: int) -> ExitAgreement:
        return ExitAgreement(
            2, 40, 4.0, 0.1, 0.2, 0, classes, 90, 0, exits, 0, 0.05, LIMITS["int8"]
        )

    # Two in a hundred of 40 images and 90 decisions are none; an image decides at eleven settings.
    assert row(1, 11).failures == ()
    assert row(2, 12).failures == (
        "exit 2: 2 of 40 images get another class (limit 1)",
        "exit 2: 12 of 90 decisions take another exit (limit 11)",
    )
