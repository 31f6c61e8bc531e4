"""Each formula against numbers worked out by hand, and against a slow and obvious form."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from exitkit.objectives import functional as f
from exitkit.objectives import schedules

LN2, LN3 = math.log(2), math.log(3)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_one_hot() -> None:
    assert f.one_hot(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_cross_entropy_by_hand() -> None:
    # softmax(0, ln 3) = (1/4, 3/4): -ln 1/4 = 2 ln 2, -ln 3/4 = 2 ln 2 - ln 3
    logits = torch.tensor([[0.0, LN3], [0.0, LN3], [0.0, LN3]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    expected = torch.tensor([2 * LN2, 2 * LN2 - LN3, 2 * LN2 - LN3 / 2])
    torch.testing.assert_close(f.cross_entropy(logits, targets), expected)


def test_cross_entropy_of_hard_labels_is_torchs() -> None:
    logits, labels = drawn(3, 6, 5), torch.tensor([0, 4, 2, 2, 1, 3])
    targets = f.one_hot(labels, 5).expand(3, 6, 5)
    slow = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in logits])
    torch.testing.assert_close(f.cross_entropy(logits, targets), slow)


def test_total_cross_entropy_by_hand() -> None:
    # one says (1/4, 3/4) of both images, the other (1/2, 1/2)
    logits = torch.tensor([[[0.0, LN3]] * 2, [[0.0, 0.0]] * 2])
    same = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    one = (2 * LN2 + 2 * LN2 - LN3) / 2
    assert f.total_cross_entropy(logits, same).item() == pytest.approx(one + LN2)
    own = torch.tensor([[[1.0, 0.0]] * 2, [[0.0, 1.0]] * 2])
    assert f.total_cross_entropy(logits, own).item() == pytest.approx(2 * LN2 + LN2)


@pytest.mark.parametrize("temperature", [2.0, torch.tensor(2.0)])
def test_soft_cross_entropy_by_hand(temperature: float | Tensor) -> None:
    # At T = 2 the teacher says (1/4, 3/4), the students (3/4, 1/4) and (1/2, 1/2).
    teacher = torch.tensor([[0.0, 2 * LN3]], requires_grad=True)
    students = torch.tensor([[[2 * LN3, 0.0]], [[0.0, 0.0]]], requires_grad=True)
    found = f.soft_cross_entropy(teacher, students, temperature)
    assert found.item() == pytest.approx(2 * LN2 - LN3 / 4 + LN2)
    told, learned = torch.autograd.grad(found, (teacher, students), allow_unused=True)
    assert told is None
    # what each says minus what it is told, over T
    torch.testing.assert_close(learned, torch.tensor([[[0.25, -0.25]], [[0.125, -0.125]]]))


def test_mutual_kl_is_every_ordered_pair_once() -> None:
    logits = drawn(3, 6, 5)
    pairs = [(j, i) for j in range(3) for i in range(3) if j != i]
    slow = sum(
        4 * F.kl_div((logits[i] / 2).log_softmax(1), (logits[j] / 2).softmax(1),
                     reduction="batchmean") for j, i in pairs
    )  # fmt: skip
    torch.testing.assert_close(f.mutual_kl(logits, 2.0), torch.as_tensor(slow) / 2)


def test_powers_fall_from_the_shallowest_exit() -> None:
    assert f.powers(3.0, 3, 0, torch.device("cpu")).tolist() == [9, 3, 1]
    assert f.powers(2.0, 3, 1, torch.device("cpu")).tolist() == [8, 4, 2]


def test_the_deepest_exit_alone_is_weighed() -> None:
    assert f.weigh_deepest(torch.tensor([1.0, 3.0]), 0.5).tolist() == [1, 1.5]
    per_image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert f.weigh_deepest(per_image, 0.5).tolist() == [[1, 2], [1.5, 2]]


def test_maps_and_tokens_are_pooled_over_their_positions() -> None:
    maps = drawn(2, 3, 4, 4)
    slow = torch.tensor([[maps[b, d].sum() / 16 for d in range(3)] for b in range(2)])
    torch.testing.assert_close(f.pooled(maps), slow)
    torch.testing.assert_close(f.pooled(maps.flatten(2).transpose(1, 2)), slow)
    assert f.channels((3, 4, 5)) == f.channels((20, 3)) == 3


def test_kl_by_hand() -> None:
    # T = 2: teacher softmax(0, ln 3), student softmax(0, 0).
    # KL = 1/4 ln(1/2) + 3/4 ln(3/2) = 3/4 ln 3 - ln 2, times T^2 = 4
    teacher, student = torch.tensor([[0.0, 2 * LN3]]), torch.zeros(1, 2)
    assert f.kl(teacher, student, 2.0).item() == pytest.approx(3 * LN3 - 4 * LN2, abs=1e-6)
    # Reverse: KL(student || teacher) = 1/2 ln 2 + 1/2 ln(2/3) = ln 2 - 1/2 ln 3, times 4
    assert f.kl(teacher, student, 2.0, reverse=True).item() == pytest.approx(
        4 * LN2 - 2 * LN3, abs=1e-6
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("reverse", [False, True])
def test_pairwise_kl_is_torchs_pair_by_pair(temperature: float, reverse: bool) -> None:
    teachers, students = drawn(2, 6, 5), drawn(3, 6, 5, seed=1)
    fast = f.pairwise_kl(teachers, students, temperature, reverse)
    for j, teacher in enumerate(teachers):
        for i, student in enumerate(students):
            first, second = (student, teacher) if reverse else (teacher, student)
            slow = F.kl_div(
                (second / temperature).log_softmax(1),
                (first / temperature).softmax(1),
                reduction="batchmean",
            )
            torch.testing.assert_close(fast[j, i], slow * temperature**2)


@pytest.mark.parametrize("reverse", [False, True])
def test_only_the_student_of_a_divergence_learns(reverse: bool) -> None:
    teacher, student = drawn(2, 3).requires_grad_(), drawn(2, 3, seed=1).requires_grad_()
    f.kl(teacher, student, 2.0, reverse).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.ne(0).all()


def test_mix_by_hand() -> None:
    # image 0 averages, image 1 takes the second of two exits
    weights = torch.tensor([[[0.5, 0.5]], [[0.0, 1.0]]])
    logits = torch.tensor([[[2.0, 4.0], [1.0, 1.0]], [[6.0, 0.0], [7.0, 8.0]]])
    assert f.mix(weights, logits).tolist() == [[[4.0, 2.0], [7.0, 8.0]]]


def test_mix_image_by_image() -> None:
    weights, logits = drawn(6, 4, 3), drawn(3, 6, 5, seed=1)
    slow = torch.stack([weights[b] @ logits[:, b] for b in range(6)], dim=1)
    torch.testing.assert_close(f.mix(weights, logits), slow)


def test_hint_by_hand() -> None:
    # differences 1, 2, -1, 3; the pair (-1, -2) has nothing above zero and is not counted
    a = torch.tensor([[2.0, 1.0], [0.0, -1.0]])
    b = torch.tensor([[1.0, -1.0], [1.0, -2.0]])
    assert f.hint(a, b).item() == 1 + 4 + 1


def test_attention_by_hand() -> None:
    # two channels of one row with two positions: (1^2 + 3^2) / 2 and (2^2 + 0) / 2
    feature = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
    assert f.attention(feature).tolist() == [[5.0, 2.0]]


def test_normalised_mse_by_hand() -> None:
    # (3, 4) / 5 = (0.6, 0.8) against (1, 0): (0.16 + 0.64) / 2
    assert f.normalised_mse(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])).item() == (
        pytest.approx(0.4)
    )


def test_normalised_mse_image_by_image() -> None:
    a, b = drawn(4, 3, 2, 2), drawn(4, 3, 2, 2, seed=1)
    slow = sum((x / x.norm() - y / y.norm()).square().mean() for x, y in zip(a, b, strict=True))
    torch.testing.assert_close(f.normalised_mse(a, b), slow / 4)


def test_sorted_logits() -> None:
    assert f.sorted_logits(torch.tensor([[3.0, -1.0, 2.0]])).tolist() == [[-1.0, 2.0, 3.0]]


def test_gradients_flow_through_the_order() -> None:
    logits = torch.tensor([[3.0, -1.0, 2.0]], requires_grad=True)
    f.sorted_logits(logits)[0, 2].backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[1.0, 0.0, 0.0]]


def test_cosines_by_hand() -> None:
    rows = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]])
    half = 1 / math.sqrt(2)
    expected = torch.tensor([[[1.0, half, 0.0], [half, 1.0, half], [0.0, half, 1.0]]])
    torch.testing.assert_close(f.cosines(rows), expected)
    # off the diagonal: four halves and two zeros over six entries
    mean = f.off_diagonal_mean(f.cosines(rows))
    assert mean.item() == pytest.approx(4 * half / 6)


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: f.cross_entropy(a, b),
        lambda a, b: f.kl(a, b, 3.0),
        lambda a, b: f.hint(a, b),
        lambda a, b: f.normalised_mse(a, b),
        lambda a, b: f.sorted_logits(a),
        lambda a, b: f.cosines(a.unsqueeze(0)),
        lambda a, b: f.mix(torch.ones(4, 1, 1).to(a), a.unsqueeze(0)),
        lambda a, b: f.attention(a.reshape(4, 3, 1, 1)),
    ],
)
def test_half_precision_is_widened_first(loss: object) -> None:
    assert callable(loss)
    a, b = drawn(4, 3).bfloat16(), drawn(4, 3, seed=1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = loss(a, b)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, loss(a.float(), b.float()), rtol=0, atol=0)


def test_ramp_by_hand() -> None:
    # the five epochs of a ramp of 5 in 300: exp(-5 (1 - e/5)^2)
    values = [schedules.ramp(e / 300, 5 / 300) for e in range(1, 7)]
    assert values == pytest.approx([0.0408, 0.1653, 0.4493, 0.8187, 1.0, 1.0], abs=1e-4)
    assert schedules.ramp(0.0, 0.5) == pytest.approx(math.exp(-5))
    assert schedules.ramp(0.0, 0.0) == 1.0
