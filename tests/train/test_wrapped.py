"""Runs of networks from elsewhere: hand-written ones of tests.models.foreign, and torchvision's."""

import copy
import json

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from exitkit.config import parse
from exitkit.errors import ConfigError
from exitkit.export import choices
from exitkit.train import evaluate, session
from tests.models import foreign
from tests.train import tiny

MAPS = {"arch": "python:tests.models.foreign:convolutional", "at": ("blocks.0", "blocks.1")}
TOKENS = {"arch": "python:tests.models.foreign:transformer", "at": ("layers.0", "layers.1")}
RESNET = {"arch": "torchvision:resnet18", "at": ("layer1", "layer3")}
USUAL = {"width": 1.0, "epochs": 1}


@pytest.mark.parametrize("kind", [MAPS, TOKENS], ids=["maps", "tokens"])
@pytest.mark.parametrize("method", ["mate+dsr", "one+dml+deep"])
def test_stopped_and_resumed_is_as_never_stopped(prepare, tmp_path, kind, method):
    changes = {**USUAL, **kind, "method": method, "epochs": 2}
    calm = prepare("calm", **changes)
    list(calm.run())
    next(prepare("torn", **changes).run())
    resumed = session.resume("torn", root=tmp_path / "runs")
    list(resumed.run())
    tiny.assert_same_runs(resumed.files, calm.files)


@pytest.mark.parametrize("kind", [MAPS, TOKENS], ids=["maps", "tokens"])
def test_a_run_builds_its_network_again_from_names(prepare, kind):
    opened = prepare("named", **{**USUAL, **kind, "method": "deep"})
    list(opened.run())
    card = opened.files.read_card()
    assert (card.arch, card.at, card.exits) == (kind["arch"], kind["at"], (1, 2, 3))
    table = json.loads(opened.files.config.read_text())
    assert (table["arch"], tuple(table["at"])) == (kind["arch"], kind["at"])
    assert parse(table, "config.json").at == kind["at"]
    network, _ = evaluate.trained(opened.files)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images)[0].logits, opened.network.eval()(images)[0].logits)
    with pytest.raises(ConfigError, match=r"exit 4: .*has exits 1, 2, 3"):
        choices.exits(card, (4,))


@pytest.mark.parametrize("method", ["ffsd", "loth", "drg", "mate+ffsd"])
def test_methods_that_need_maps_are_refused_on_tokens(prepare, tmp_path, method):
    with pytest.raises(ConfigError, match="compares feature maps, and this network has tokens"):
        prepare("never", **{**USUAL, **TOKENS, "method": method})
    assert not (tmp_path / "runs" / "never").exists()


def weights(folder, classes=3):
    torch.manual_seed(8)
    model = torchvision.models.resnet18(num_classes=classes)
    path = folder / "maker.safetensors"
    save_file(model.state_dict(), path)
    return model.eval(), path


@pytest.mark.parametrize("learn_from", ["labels", "last"])
def test_a_frozen_network_answers_as_its_maker_does(prepare, tmp_path, learn_from):
    model, path = weights(tmp_path)
    changes = {"method": "deep", "regime": "frozen", "learn_from": learn_from}
    opened = prepare("frozen", weights=str(path), **{**USUAL, **RESNET, **changes})
    begun = opened.network.heads["1"].classifier.weight.detach().clone()
    list(opened.run())
    network, _ = evaluate.trained(opened.files)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images)[-1].logits, model(images))
    assert not torch.equal(network.heads["1"].classifier.weight, begun)
    # the pixels are what the weights were taught on, in training, scores and export alike
    assert opened.files.read_card().image.mean == opened.data.image.mean == (0.485, 0.456, 0.406)
    assert any("images are normalised as they expect" in note for note in opened.notes)


def test_a_frozen_network_keeps_its_classes(prepare, tmp_path):
    _, path = weights(tmp_path, classes=9)
    changes = {"method": "deep", "weights": str(path), **USUAL, **RESNET}
    with pytest.raises(ConfigError, match="as it is on 3 classes: its weights tell 9 classes"):
        prepare("frozen", regime="frozen", **changes)
    assert prepare("joint", **changes).network.exits == (1, 2, 3)


@pytest.mark.parametrize("told", [3, 9])
def test_a_function_may_bring_weights_of_its_own(prepare, monkeypatch, told):
    model = foreign.Convolutional(told).eval()
    monkeypatch.setattr(foreign, "convolutional", lambda: copy.deepcopy(model))
    changes = {**USUAL, **MAPS, "method": "deep", "regime": "frozen"}
    if told == 9:
        with pytest.raises(ConfigError, match="as it is on 3 classes: its weights tell 9 classes"):
            prepare("frozen", **changes)
        return
    opened = prepare("frozen", **changes)
    assert any("with which the function returns it" in note for note in opened.notes)
    list(opened.run())
    network, _ = evaluate.trained(opened.files)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images)[-1].logits, model(images))


def test_a_run_resumes_without_the_file_that_it_began_with(prepare, tmp_path):
    _, path = weights(tmp_path)
    changes = {"method": "deep", "weights": str(path), **USUAL, **RESNET, "epochs": 2}
    calm = prepare("calm", **changes)
    list(calm.run())
    next(prepare("torn", **changes).run())
    path.unlink()
    resumed = session.resume("torn", root=tmp_path / "runs")
    assert resumed.data.image.mean == (0.485, 0.456, 0.406)
    list(resumed.run())
    tiny.assert_same_runs(resumed.files, calm.files)


def test_a_run_may_begin_with_another_wrapped_run(prepare):
    first = prepare("first", **{**USUAL, **TOKENS, "method": "deep"})
    list(first.run())
    second = prepare("second", weights="first", **{**USUAL, **TOKENS, "method": "deep"})
    for name, tensor in evaluate.trained(first.files)[0].state_dict().items():
        assert torch.equal(second.network.state_dict()[name], tensor)


def test_another_network_of_the_kind_is_fresh(prepare, tmp_path):
    _, path = weights(tmp_path)
    opened = prepare("peers", method="dml", weights=str(path), **{**USUAL, **RESNET})
    own = opened.network.state_dict()["stages.1.conv1.weight"]
    (peer,) = (
        tensor
        for name, tensor in opened.objective.state_dict().items()
        if name.endswith("stages.1.conv1.weight")
    )
    assert peer.shape == own.shape
    assert not torch.equal(peer, own)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at": "layer1"}, "at with --arch resnet18: only networks from elsewhere have that"),
        ({"weights": "default"}, "weights default with --arch resnet18"),
        ({**TOKENS, "width": 0.5}, "width 0.5 with --arch python:"),
        ({**TOKENS, "heads": "bottle"}, "has light heads; leave heads out"),
        ({**TOKENS, "stem": "imagenet"}, "leave stem out"),
        ({"arch": "keras:resnet"}, "choose one of: .*timm:NAME, torchvision:NAME"),
        ({"arch": "timm:"}, "no such network"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        parse({"arch": "resnet18", **changes}, "the test")


def test_names_of_places_come_from_a_list_or_a_line():
    for at in ("layers.0, layers.1", ["layers.0", "layers.1"]):
        assert parse({**TOKENS, "at": at}, "the test").at == ("layers.0", "layers.1")


def test_the_images_must_have_the_size_that_a_transformer_takes(prepare):
    with pytest.raises(ConfigError, match=r"Transformer on images of 40 pixels.*--image-size 32"):
        prepare("wide", **{**USUAL, **TOKENS, "image_size": 40})
