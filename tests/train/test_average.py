"""Averaged weights: numbers by hand, and that they are what is judged and kept."""

import copy

import pytest
import torch
from objectives import tiny as network_of

from exitkit.errors import ConfigError
from exitkit.records import Clock
from exitkit.train import checkpoint, evaluate
from exitkit.train.average import Average
from tests.train import tiny

CPU = torch.device("cpu")


def test_the_average_by_hand() -> None:
    network = network_of.build()
    weight, norm = network.heads["3"].classifier.bias, network.stages["1"][1]
    with torch.no_grad():
        weight.fill_(0.0)
    average = Average(network, 0.2)
    kept, kept_norm = average.network.heads["3"].classifier.bias, average.network.stages["1"][1]
    with torch.no_grad():
        weight.fill_(1.0)
    norm.running_mean.fill_(1.0)
    norm.num_batches_tracked.fill_(7)
    # decay 1/10 at the first step of the run: 0.1 * 0 + 0.9 * 1
    average.update(network, Clock(0, 2, 0, 3))
    torch.testing.assert_close(kept, torch.full_like(kept, 0.9))
    torch.testing.assert_close(kept_norm.running_mean, torch.full((4,), 0.9))
    assert kept_norm.num_batches_tracked == 7
    # min(0.2, 4/13) at the fourth: 0.2 * 0.9 + 0.8 * 2
    with torch.no_grad():
        weight.fill_(2.0)
    average.update(network, Clock(1, 2, 0, 3))
    torch.testing.assert_close(kept, torch.full_like(kept, 1.78))
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert not average.network.training


def test_what_does_not_move_is_averaged_to_the_bit() -> None:
    network = network_of.build()
    before = copy.deepcopy(network.state_dict())
    average = Average(network, 0.999)
    for step in range(20):
        average.update(network, Clock(0, 1, step, 20))
    tiny.assert_same(dict(average.network.state_dict()), dict(before))


def test_the_average_is_judged_and_kept(start) -> None:
    trainer, loader, sets = start("deep", ema=0.9)
    plain, other, _ = start("deep")
    for record, raw in zip(
        trainer.run(loader, sets.tune), plain.run(other, sets.tune), strict=True
    ):
        assert record.accuracy == evaluate.accuracy(
            trainer.average.network, sets.tune, sets.image, CPU, "float32"
        )
        assert record.loss == raw.loss
        if record.selected:
            expected = checkpoint.plain(trainer.average.network.state_dict())
            tiny.assert_same(trainer.selected.weights, expected)
    # The average watches: training itself goes on as without it.
    tiny.assert_same(dict(trainer.network.state_dict()), dict(plain.network.state_dict()))


@pytest.mark.parametrize("value", ["1", "-0.1"])
def test_a_decay_that_is_no_share_is_refused(start, value: str) -> None:
    with pytest.raises(ConfigError, match=r"ema .* is no share"):
        start("deep", ema=value)
