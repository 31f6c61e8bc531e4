"""The loop, on real digits and small networks; sums of methods stand for all of them."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from exitkit import data
from exitkit.config import parse
from exitkit.errors import TrainingError
from exitkit.objectives.base import Objective
from exitkit.records import Clock
from exitkit.train import assemble, checkpoint, evaluate
from exitkit.train.settings import resolve
from exitkit.train.tally import LOOK, Tally
from exitkit.train.trainer import Trainer
from tests.train import tiny

CPU = torch.device("cpu")


def states(trainer: Trainer, loader, tune) -> list[dict]:
    """Train to the end; return the state after every epoch."""
    return [copy.deepcopy(trainer.state_dict()) for _ in trainer.run(loader, tune)]


@pytest.mark.parametrize("method", ["deep", "pskd+byot", "mate", "dlb"])
def test_a_loaded_state_goes_on_bit_for_bit(start, tmp_path, method):
    trainer, loader, sets = start(method)
    expected = states(trainer, loader, sets.tune)
    checkpoint.save(tmp_path / "c.pt", expected[0])

    resumed, loader, sets = start(method)
    torch.rand(7)  # the generators come back with the state
    resumed.load_state_dict(checkpoint.load(tmp_path / "c.pt"))
    assert resumed.epoch == 1
    tiny.assert_same(states(resumed, loader, sets.tune), expected[1:])


def test_the_same_seed_gives_the_same_bits_and_another_gives_others(start):
    one, other, third = (
        states(trainer, loader, sets.tune)[-1]
        for trainer, loader, sets in (start("mate"), start("mate"), start("mate", seed=1))
    )
    tiny.assert_same(one, other)
    digests = {checkpoint.network_digest(state["network"]) for state in (one, other, third)}
    assert len(digests) == 2


def test_records_tell_what_the_epoch_gave(start):
    trainer, loader, sets = start("deep", lr=0.01)
    seen = []
    for record in trainer.run(loader, sets.tune):
        assert record.accuracy == evaluate.accuracy(
            trainer.network, sets.tune, sets.image, CPU, "float32"
        )
        assert trainer.network.training
        seen.append(record)
    assert [record.epoch for record in seen] == [0, 1, 2]
    assert {record.epochs for record in seen} == {3}
    assert seen[0].selected
    assert seen[0].terms == {"labels": pytest.approx(seen[0].loss)}
    assert len(seen[0].accuracy) == 4
    assert seen[0].seconds_left > 0
    assert seen[-1].seconds_left == 0
    assert seen[-1].loss < seen[0].loss
    assert (trainer.progress.step, trainer.progress.steps) == (loader.steps, loader.steps)
    assert trainer.progress.images == len(sets.train)


def test_every_epoch_tells_what_the_method_has_seen_in_it(start):
    trainer, loader, sets = start("mate+dsr")
    records = list(trainer.run(loader, sets.tune))
    for record in records:
        assert 0 < record.observations["mate/teacher_diversity"] < 1
        assert record.observations["mate/nearest_teacher_4"] in (1, 2, 3, 4)
    assert len({record.observations["mate/teacher_diversity"] for record in records}) == 3


def test_the_best_epoch_is_kept_and_of_equals_the_latest(start, monkeypatch):
    means = iter([(0.5, 0.7), (0.9, 0.1), (0.6, 0.6), (0.6, 0.6)])
    monkeypatch.setattr("exitkit.train.trainer.accuracy", lambda *_: next(means))
    trainer, loader, sets = start("ce", epochs=4, augment=False)
    weights = []
    chosen = []
    for record in trainer.run(loader, sets.tune):
        weights.append(checkpoint.network_digest(trainer.network.state_dict()))
        chosen.append(record.selected)
    assert chosen == [True, False, True, True]
    assert trainer.selected.epoch == 3
    assert checkpoint.network_digest(trainer.selected.weights) == weights[3]
    assert len(set(weights)) == 4


class Breaks(Objective):
    """Labels only, but one step's loss is no number."""

    def __init__(self):
        nn.Module.__init__(self)  # it looks at no blueprint

    def terms(self, out, labels, batch, clock):
        broken = float("nan") if (clock.epoch, clock.step) == (1, 1) else 0.0
        return {"odd": out.main[-1].logits.sum() * 0 + broken}


def test_a_loss_that_is_no_number_stops_with_epoch_and_step(start):
    trainer, loader, sets = start("ce")
    trainer.step.objective = Breaks()
    epochs = trainer.run(loader, sets.tune)
    next(epochs)
    kept = copy.deepcopy(trainer.state_dict())
    with pytest.raises(TrainingError, match="loss of epoch 2, step 2: is not a finite number"):
        next(epochs)
    assert (trainer.epoch, kept["epoch"]) == (1, 1)


def test_weights_that_the_last_step_ruined_are_not_kept(start):
    trainer, loader, sets = start("ce", lr=3e38, warmup=0.0)
    with pytest.raises(TrainingError, match="epoch 1"):
        next(trainer.run(loader, sets.tune))
    assert trainer.epoch == 0


def test_a_state_of_another_length_or_network_is_refused(start):
    trainer, _, _ = start("ce")
    state = trainer.state_dict()
    longer, _, _ = start("ce", epochs=4)
    with pytest.raises(ValueError, match="3 epochs, not 4"):
        longer.load_state_dict(state)
    wider, _, _ = start("ce", width=0.25)
    with pytest.raises(RuntimeError, match="size mismatch"):
        wider.load_state_dict(state)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", ["deep", "pskd"])
def test_steps_never_wait_for_the_gpu(method, digit_folder):
    device = torch.device("cuda")
    options = {"ema": 0.9, "clip": 1.0, "class_weights": "balanced", "cutout": 8}
    asked = parse(tiny.settings(digit_folder, method=method, device="cuda", **options), "the test")
    sets = data.load(asked)
    config = resolve(asked, sets, device)
    parts = assemble.assemble(config, sets, device)
    trainer = assemble.trainer(config, parts, sets, device)
    batches = list(parts.loader.epoch(0))
    trainer.advance(batches[0], Clock(0, 1, 0, 99))  # the first step makes workspaces
    tally = Tally(device, 1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(LOOK + 9):
            clock = Clock(0, 1, step, 99)
            trainer.optimisers.set_time(clock)
            tally.add(*trainer.advance(batches[0], clock))
            trainer.average.update(trainer.network, clock)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    loss, _ = tally.finish()
    assert loss > 0


def test_bf16_trains_with_float32_weights(start):
    trainer, loader, _ = start("deep", batch_size=2)
    trainer.plan = replace(trainer.plan, precision="bf16")
    trainer.optimisers.set_time(Clock(0, 1, 0, 1))
    kinds = []
    trainer.network.heads["4"].classifier.register_forward_hook(
        lambda module, inputs, output: kinds.append(output.dtype)
    )
    loss, _ = trainer.advance(next(loader.epoch(0)), Clock(0, 1, 0, 1))
    assert (loss.dtype, kinds) == (torch.float32, [torch.bfloat16])
    assert {p.dtype for p in trainer.step.parameters()} == {torch.float32}
