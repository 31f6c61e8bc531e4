"""LOTH by hand and against loops, and the sizes of its fusions."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from exitkit.errors import ConfigError
from exitkit.objectives.loth import VirtualTeacher
from exitkit.objectives.loth_modules import FUSIONS, Adaptive, Teacher, neighbours
from objectives import by_hand, tiny
from objectives.tiny import CLOCK

LN2, LN3 = math.log(2), math.log(3)


class Says(nn.Module):
    """A virtual teacher with a fixed answer."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.rows = torch.tensor(rows)

    def forward(self, features: Tensor) -> Tensor:
        return self.rows


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_term_by_hand() -> None:
    made = VirtualTeacher(
        by_hand.blueprint(2, 2), base=1.25, temperature=1.0, teacher=2.0, distillation=3.0
    )
    # the virtual teacher says (1/4, 3/4); the exits (1/2, 1/2) and (1/10, 9/10), whose logits'
    # mean is the teacher's own answer
    made.virtual = Says([[0.0, LN3]] * 2)  # type: ignore[assignment]
    seen = by_hand.exits([[[0.0, 0.0]] * 2, [[0.0, 2 * LN3]] * 2])
    found = by_hand.terms(made, seen, by_hand.batch([1, 1]), CLOCK)
    first = 0.75 * LN3 - LN2
    second = 0.25 * math.log(10 / 4) + 0.75 * math.log(10 / 12)
    assert found == {
        # 2 - 1.25^2 and 2 - 1.25
        "labels": pytest.approx(0.4375 * LN2 + 0.75 * math.log(10 / 9)),
        "teacher": pytest.approx(2 * math.log(4 / 3)),
        "distillation": pytest.approx(3 * (1.5625 * first + 1.25 * second), abs=1e-6),
    }


def test_the_teacher_learns_from_the_exits_mean() -> None:
    made = VirtualTeacher(by_hand.blueprint(2, 2), temperature=2.0)
    made.virtual = Says([[0.0, 0.0]] * 2)  # type: ignore[assignment]
    # the mean of the logits is (0, 2 ln 3): (1/4, 3/4) at T = 2
    seen = by_hand.exits([[[0.0, LN3]] * 2, [[0.0, 3 * LN3]] * 2])
    found = by_hand.terms(made, seen, by_hand.batch([0, 1]), CLOCK)
    assert found["teacher"] == pytest.approx(LN2 + 4 * (0.75 * LN3 - LN2))


def test_the_papers_weights_of_four_exits() -> None:
    made = VirtualTeacher(by_hand.blueprint(4, 2))
    labels = by_hand.labels(made, by_hand.exits([[[0, 0]]] * 4), by_hand.batch([0]), CLOCK)
    expected = torch.tensor([0.251, 0.4791, 0.6775, 0.85])
    torch.testing.assert_close(labels.weights, expected, atol=5e-5, rtol=0)


def test_the_adaptive_fusion_equals_loops() -> None:
    torch.manual_seed(0)
    fusion = Adaptive(exits=2, channels=3, positions=4).eval()
    assert fusion.wide.kernel_size == fusion.near.kernel_size == (1,)
    fusion = _with_kernel(fusion, 3)
    with torch.no_grad():
        fusion.trade.fill_(0.4)
    features = torch.randn(2, 2, 3, 2, 2)
    x = torch.cat([features[:, 0], features[:, 1]], dim=1)  # [B, C', h, w]
    share = 1 / (1 + math.exp(-0.4))
    weighed = torch.zeros_like(x)
    for b in range(2):
        for c in range(6):
            for p in range(4):
                overall = local = 0.0
                for j in range(3):
                    if not 0 <= c + j - 1 < 6:
                        continue
                    near = x[b, c + j - 1].flatten()
                    overall += fusion.wide.weight[0, 0, j].item() * near.mean().item()
                    for q in range(4):
                        local += fusion.near.weight[p, q, j].item() * near[q].item()
                m = 2 * (1 - share) * local + 2 * share * overall
                at = (b, c, p // 2, p % 2)
                weighed[at] = x[at] / (1 + math.exp(-m))
    torch.testing.assert_close(fusion(features), fusion.mix(weighed))


def _with_kernel(fusion: Adaptive, kernel: int) -> Adaptive:
    fusion.wide = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
    fusion.near = nn.Conv1d(4, 4, kernel, padding=kernel // 2, bias=False)
    return fusion


def test_at_first_both_parts_of_a_weight_count_alike() -> None:
    fusion = Adaptive(exits=2, channels=3, positions=4)
    assert 2 * fusion.trade.sigmoid().item() == 1


@pytest.mark.parametrize(
    ("channels", "side", "count"),
    [
        (512, 4, 1_102_700),  # ResNet
        (512, 2, 1_101_020),  # VGG
        (1024, 4, 4_300_652),  # MobileNetV1, ShuffleNetV2
        (1280, 4, 6_686_060),  # MobileNetV2
        (960, 4, 3_786_220),  # ShuffleNetV1
    ],
)
def test_the_fusion_has_as_many_parameters_as_the_papers(
    channels: int, side: int, count: int
) -> None:
    assert parameters(Teacher("adaptive", 4, (channels, side, side), 100)) == count


def test_a_weight_looks_at_an_odd_number_of_channels() -> None:
    # log2 of 2048 is 11: (11 + 1) / 2 = 6, which is even; of 48 it is 5.6: 3
    assert [neighbours(c) for c in (2048, 3840, 5120, 48, 1)] == [7, 7, 7, 3, 1]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_learns(fusion: str) -> None:
    torch.manual_seed(0)
    made = Teacher(fusion, 3, (16, 2, 2), 5)
    features = torch.randn(4, 3, 16, 2, 2, requires_grad=True)
    logits = made(features)
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    moved = [p.grad is not None and bool(p.grad.ne(0).any()) for p in made.parameters()]
    assert all(moved)
    assert features.grad is not None
    assert features.grad.flatten(2).ne(0).any(dim=2).all()


def test_fusions_of_equal_weights_agree() -> None:
    torch.manual_seed(0)
    features = torch.randn(4, 3, 16, 2, 2)
    torch.manual_seed(0)
    summed = FUSIONS["sum"](3, 16, 4).eval()
    attended = FUSIONS["att-sample"](3, 16, 4).eval()
    attended.mix.load_state_dict(summed.mix.state_dict())  # type: ignore[union-attr, operator]
    with torch.no_grad():
        attended.scores[-1].weight.zero_()  # type: ignore[index, union-attr]
        attended.scores[-1].bias.zero_()  # type: ignore[index, union-attr]
    torch.testing.assert_close(attended(features), summed(features / 3))


def test_the_virtual_teacher_is_stepped_by_itself() -> None:
    (group,) = VirtualTeacher(tiny.blueprint((1, 2, 3))).param_groups()
    assert group.optimiser == "sgd"
    assert group.options == {"weight_decay": 1e-5, "nesterov": False}


def test_what_does_not_fit_is_refused_before_training() -> None:
    plan = tiny.blueprint((1, 2, 3))
    with pytest.raises(ConfigError, match="'loth': compares feature maps"):
        VirtualTeacher(replace(plan, features=((4, 16),) * 3))
    with pytest.raises(ConfigError, match="'loth': compares the exits' features"):
        VirtualTeacher(replace(plan, features=((16, 4, 4), (16, 2, 2), (16, 2, 2))))
    with pytest.raises(ConfigError, match=r"'add': .*adaptive"):
        VirtualTeacher(plan, fusion="add")
    with pytest.raises(
        ConfigError, match=r"base=1\.15 on 5 exits: .* below 0; give at most 1\.148"
    ):
        VirtualTeacher(by_hand.blueprint(5, 2))
    VirtualTeacher(by_hand.blueprint(5, 2), base=1.148)


def test_maps_of_another_size_are_refused() -> None:
    made = Teacher("adaptive", 2, (8, 2, 2), 3)
    with pytest.raises(ConfigError, match=r"features of \(3, 3\) pixels: .* built for \(2, 2\)"):
        made(torch.zeros(2, 2, 8, 3, 3))
