import pytest
import torch

from exitkit.errors import TrainingError
from exitkit.train.tally import Tally

CPU = torch.device("cpu")


def test_means_over_the_steps_that_had_the_term():
    tally = Tally(CPU, 1)
    tally.add(torch.tensor(3.0), {"labels": torch.tensor(1.0), "late": torch.tensor(2.0)})
    tally.add(torch.tensor(1.0), {"labels": torch.tensor(1.0)})
    assert tally.finish() == (2.0, {"labels": 1.0, "late": 2.0})


def test_sums_keep_no_graph():
    tally = Tally(CPU, 1)
    weight = torch.ones((), requires_grad=True)
    tally.add(weight * 2, {"labels": weight * 2})
    assert not tally._loss.requires_grad
    assert not tally._sums["labels"].requires_grad


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_is_named_by_epoch_and_step(value):
    tally = Tally(CPU, 3)
    tally.add(torch.tensor(1.0), {})
    with pytest.raises(TrainingError, match=r"epoch 3, step 2: .* \(epoch 2 is kept\)"):
        tally.add(torch.tensor(value), {})


def test_the_first_bad_step_is_named_where_it_is_seen_late():
    # On a GPU nobody looks before the mark has been copied; the device keeps the first one.
    tally = Tally(CPU, 1)
    tally._look = lambda: None
    for value in (1.0, float("nan"), 2.0, float("inf")):
        tally.add(torch.tensor(value), {})
    with pytest.raises(TrainingError, match="epoch 1, step 2"):
        tally.finish()


def test_the_mark_works_in_bf16():
    tally = Tally(CPU, 1)
    tally.add(torch.tensor(1.5, dtype=torch.bfloat16), {"labels": torch.tensor(1.5)})
    assert tally.finish() == (1.5, {"labels": 1.5})
