import pytest
import torch
from torch import nn

from exitkit.errors import ConfigError
from exitkit.records import Batch
from exitkit.train import checkpoint
from exitkit.train.precision import autocast, choose_device, choose_precision

CPU = torch.device("cpu")


class Counts(nn.Module):
    """A step that draws random numbers and remembers that it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, batch, clock):
        self.runs += 1
        return self.layer(batch.images + torch.rand(())).mean(), {}, None


@pytest.fixture
def batches():
    images = torch.ones(2, 3, 8, 8)
    return [Batch((images,), torch.zeros(2, dtype=torch.int64), torch.arange(2))] * 2


def test_measuring_says_what_it_took_and_changes_nothing(batches, monkeypatch):
    # Where the small convolution settles it, real steps are not tried: lower the bar.
    monkeypatch.setattr("exitkit.train.precision.HOPELESS", 0.0)
    step, before = Counts(), checkpoint.generators()
    weight = step.layer.weight.detach().clone()
    precision, why = choose_precision("auto", step, batches, CPU)
    assert precision in ("float32", "bf16")
    assert why.startswith(f"precision {precision} (measured here: bf16 runs a training step at ")
    assert step.runs == 0
    assert step.layer.weight.grad is None
    assert torch.equal(step.layer.weight, weight)
    assert torch.equal(checkpoint.generators()["torch"], before["torch"])


def test_a_hopeless_processor_is_not_tried_with_real_steps(batches, monkeypatch):
    monkeypatch.setattr("exitkit.train.precision.HOPELESS", float("inf"))
    monkeypatch.setattr("exitkit.train.precision._measure_steps", None)
    precision, why = choose_precision("auto", Counts(), batches, CPU)
    assert precision == "float32"
    assert "bf16 runs a small convolution at" in why


@pytest.mark.parametrize("name", ["float32", "bf16"])
def test_what_was_asked_for_is_taken_unmeasured(name):
    assert choose_precision(name, Counts(), [], CPU) == (name, f"precision {name} (asked for)")


def test_autocast_computes_in_what_was_asked_for():
    layer, images = nn.Conv2d(3, 4, 3), torch.ones(1, 3, 4, 4)
    for precision, kind in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(CPU, precision):
            assert layer(images).dtype == kind


def test_devices_are_taken_as_asked_or_refused():
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match=r"device cuda:64: this machine has \d+ usable GPU"):
        choose_device("cuda:64")
    for name in ("gpu", "cuda:x", "cpu:1", "cuda:-1"):
        with pytest.raises(ConfigError, match="no such device"):
            choose_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device cuda: this machine has 0 usable"):
            choose_device("cuda")
