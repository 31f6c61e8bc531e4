"""Which part learns when: the frozen and the mixed regime, on real digits."""

import copy

import pytest
import torch
from objectives import tiny as network_of
from PIL import Image

from exitkit import runs
from exitkit.errors import CheckpointError, ConfigError, TrainingError
from exitkit.objectives.step import Step
from exitkit.objectives.supervised import DeepSupervision
from exitkit.records import Clock
from exitkit.train import evaluate, regime, session
from exitkit.train.regime import Phases
from tests.train import tiny


@pytest.fixture
def first(prepare) -> str:
    """A finished run with all exits, to begin with."""
    opened = prepare("first", method="deep", epochs=1)
    list(opened.run())
    return "first"


def plain_part(state: dict) -> dict:
    return {k: v for k, v in state.items() if k.startswith(("stages.", "heads.4."))}


def last_logits(run) -> torch.Tensor:
    return torch.from_numpy(evaluate.evaluate(run, "test").logits[-1])


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("deep", {}),
        ("deep", {"learn_from": "last"}),
        ("pskd+byot", {"ema": 0.9, "weight_decay": 0.1}),
        ("mate", {"learn_from": "last", "clip": 0.1}),
    ],
)
def test_a_frozen_network_stays_to_the_bit_and_its_exits_learn(prepare, first, method, more):
    opened = prepare("frozen", method=method, regime="frozen", weights=first, **more)
    assert any("weights from" in note for note in opened.notes)
    before = copy.deepcopy(dict(opened.network.state_dict()))
    list(opened.run())
    after = dict(opened.network.state_dict())
    tiny.assert_same(plain_part(after), plain_part(before))
    assert not torch.equal(after["heads.1.classifier.weight"], before["heads.1.classifier.weight"])
    beginning = runs.Run(opened.files.folder.parent / first)
    assert torch.equal(last_logits(opened.files), last_logits(beginning))


def test_a_frozen_network_sees_what_it_was_trained_on(prepare, first, write_digits, tmp_path):
    darker = write_digits(tmp_path / "darker", classes=3)
    for path in darker.rglob("*.png"):
        with Image.open(path) as image:
            dark = image.point(lambda value: value // 2)
        dark.save(path)
    opened = prepare("frozen", method="deep", regime="frozen", weights=first, data=str(darker))
    card = runs.Run(opened.files.folder.parent / first).read_card()
    own = prepare("own", method="deep", data=str(darker)).card
    assert own.image != card.image
    assert opened.card.image == opened.data.image == card.image
    assert any("images are normalised as in the run of" in note for note in opened.notes)
    next(opened.run())
    again = session.resume("frozen", root=tmp_path / "runs")
    assert again.data.image == card.image


def test_frozen_statistics_stay_while_those_of_the_heads_move():
    network = network_of.build()
    network.freeze()
    network.train()
    assert [network.stages.training, network.heads["3"].training] == [False, False]
    assert network.heads["1"].training
    assert {p.requires_grad for p in network.stages.parameters()} == {False}
    assert copy.deepcopy(network).train().stages["1"][1].training is False


def test_without_labels_the_labels_do_not_matter(prepare, first):
    digests = []
    for shift in (0, 1):
        opened = prepare(
            f"run{shift}", method="byot", regime="frozen", weights=first, learn_from="last",
            epochs=1,
        )  # fmt: skip
        loader = opened.trainer
        train = opened.parts.loader._train
        train.labels.copy_((train.labels + shift) % 3)
        list(opened.run())
        digests.append(loader.network.heads["2"].classifier.weight.detach().clone())
    assert torch.equal(*digests)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "deep"}, "--regime frozen: the frozen network would keep its random weights"),
        ({"method": "ce", "weights": "x"}, "method 'ce': it teaches the deepest exit only, which"),
        ({"method": "ffsd", "weights": "x"}, r"add '\+deep'"),
        ({"method": "deep", "weights": "x"}, "--weights x: no run in .* and no such file"),
        (
            {"method": "dlb+deep", "weights": "x", "learn_from": "last"},
            "dlb reads the labels itself",
        ),
        (
            {"method": "deep", "weights": "x", "learn_from": "last", "class_weights": "balanced"},
            "nobody looks at classes",
        ),
        ({"method": "deep", "regime": "joint", "learn_from": "last"}, "would learn from itself"),
        ({"method": "deep", "regime": "mixed", "epochs": 1}, "one epoch is no two phases"),
        (
            {"method": "deep", "regime": "mixed", "milestones": "2", "paper_protocol": True},
            "runs once in each of two phases",
        ),
        ({"method": "pskd", "regime": "joint", "mixup": 1}, "pskd remembers every image"),
        ({"method": "dlb", "regime": "joint", "cutmix": 1}, "dlb reads the labels itself"),
        ({"method": "cskd", "regime": "joint", "mixup": 1}, "cskd compares images of one class"),
        (
            {"method": "cskd+deep", "weights": "x", "learn_from": "last"},
            "cskd compares images of one class, which labels alone tell",
        ),
    ],
)
def test_what_cannot_be_combined_is_refused(prepare, changes, words):
    with pytest.raises(ConfigError, match=words):
        prepare(**{"regime": "frozen", **changes})


def test_a_term_that_teaches_only_what_is_frozen_is_refused(prepare, first):
    with pytest.raises(TrainingError, match=r"'dsr/sorted': moves no weight.*only what is frozen"):
        prepare(method="mate+dsr", regime="frozen", weights=first)


def test_the_phases_have_clocks_of_their_own():
    step = Step(network_of.build(), DeepSupervision(network_of.blueprint((1, 2, 3))))
    phases = Phases(step, epochs=5, alone=2)
    assert phases.clock(1, 3, 9) == Clock(1, 2, 3, 9)
    assert phases.clock(2, 3, 9) == Clock(0, 3, 3, 9)
    assert phases.step(2) is step
    images = network_of.batch(0)
    result = phases.step(1)(images, network_of.CLOCK)
    assert [answer.number for answer in result.out.main] == [3]
    assert list(result.terms) == ["labels"]
    result.total.backward()
    with_gradient = {
        name.split(".")[0] + "." + name.split(".")[1]
        for name, p in step.network.named_parameters()
        if p.grad is not None
    }
    assert with_gradient == {"stages.1", "stages.2", "stages.3", "heads.3"}


@pytest.mark.parametrize(
    ("share", "epochs", "expected"), [(0.5, 10, 5), (0.01, 10, 1), (0.99, 10, 9), (0.5, 3, 2)]
)
def test_both_phases_have_an_epoch(share, epochs, expected):
    assert regime.alone("mixed", share, epochs) == expected
    assert regime.alone("joint", share, epochs) == 0


def test_the_backbone_learns_alone_first(start):
    trainer, loader, sets = start("mate", regime="mixed", epochs=4, backbone_share=0.5)
    states = [copy.deepcopy(trainer.state_dict())]
    records = []
    for record in trainer.run(loader, sets.tune):
        records.append(record)
        states.append(copy.deepcopy(trainer.state_dict()))
    assert [record.selected for record in records[:3]] == [False, False, True]
    assert [list(record.terms) == ["labels"] for record in records] == [True, True, False, False]
    early = [
        {k: v for k, v in s["network"].items() if k[:8] in ("heads.1.", "heads.2.", "heads.3.")}
        for s in states
    ]
    tiny.assert_same(early[2], early[0])
    assert not torch.equal(*(e["heads.1.classifier.weight"] for e in early[2:4]))
    tiny.assert_same(states[2]["objective"], states[0]["objective"])
    last = "heads.4.classifier.weight"
    assert not torch.equal(states[0]["network"][last], states[1]["network"][last])
    # The cosine begins anew: both phases end low and begin high.
    assert records[2].lr > records[1].lr
    assert records[3].lr == pytest.approx(records[1].lr)


def test_a_run_stopped_in_its_first_phase_has_no_network_yet_and_goes_on(prepare, tmp_path):
    changes = {"method": "byot", "regime": "mixed", "epochs": 4, "ema": 0.9}
    whole = prepare("whole", **changes)
    list(whole.run())
    stopped = prepare("stopped", **changes)
    next(stopped.run())
    with pytest.raises(CheckpointError, match=r"stopped: no network yet in .*"):
        runs.find("stopped", tmp_path / "runs")
    again = session.resume("stopped", root=tmp_path / "runs")
    assert [record.selected for record in again.run()][:2] == [False, True]
    expected = dict(whole.network.state_dict())
    tiny.assert_same(dict(again.network.state_dict()), expected)
    assert runs.find("stopped", tmp_path / "runs").network.read_bytes() == (
        whole.files.network.read_bytes()
    )


def test_the_first_phase_is_training_without_exits(start):
    alone, loader, sets = start("deep", regime="mixed", epochs=4, backbone_share=0.5)
    plain, other, _ = start("ce", epochs=2)
    for _ in zip(range(2), alone.run(loader, sets.tune), strict=False):
        pass
    list(plain.run(other, sets.tune))
    mixed, expected = alone.network.state_dict(), plain.network.state_dict()
    tiny.assert_same({k: mixed[k] for k in expected}, dict(expected))
