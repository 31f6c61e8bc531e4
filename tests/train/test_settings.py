"""What open settings become."""

import json

import pytest

from exitkit import names
from exitkit.config import TrainConfig
from exitkit.errors import ConfigError
from exitkit.objectives import build as objectives
from exitkit.train.settings import take


@pytest.mark.parametrize(
    ("method", "heads"),
    [
        ("byot", "byot"),
        ("pskd+byot(last=1.9)", "byot"),
        ("eed", "eed"),
        ("beed", "bottle"),
        ("loth", "bottle"),
        ("mate+dsr", "bottle"),
        ("pskd+dmfl", "byot"),
        ("deep", "light"),
    ],
)
def test_heads_of_the_paper_are_those_of_its_card(method, heads):
    assert objectives.heads(method) == heads


def test_a_run_holds_the_kind_of_heads_that_the_paper_had(prepare):
    opened = prepare(method="byot", heads="paper", width=0.125)
    assert json.loads(opened.files.config.read_text())["heads"] == "byot"
    assert opened.files.read_card().heads == "byot"


def test_papers_that_disagree_are_named():
    with pytest.raises(
        ConfigError,
        match=r"heads of the paper for method 'byot\+loth': the papers had different ones "
        r"\(byot: byot, loth: bottle\); name one kind with --heads",
    ):
        objectives.heads("byot+loth")


@pytest.mark.parametrize(
    ("arch", "size", "stem"),
    [
        ("resnet18", 32, "cifar"),
        ("resnet18", 127, "cifar"),
        ("resnet18", 128, "imagenet"),
        ("resnet20", 224, "cifar"),
    ],
)
def test_large_images_take_the_imagenet_stem_where_there_is_one(arch, size, stem):
    assert names.usual_stem(arch, size) == stem


def test_a_run_holds_its_stem(prepare):
    assert prepare("small", method="ce").files.read_card().stem == "cifar"
    assert prepare("large", method="ce", image_size=128).files.read_card().stem == "imagenet"
    asked = prepare("asked", method="ce", stem="imagenet")
    assert asked.files.read_card().stem == "imagenet"
    assert list(asked.run())[-1].epoch == 2


def test_a_run_from_before_stems_could_be_chosen_has_the_cifar_stem() -> None:
    kept = {"epochs": 1, "batch_size": 2, "lr": 0.1, "schedule": "step", "tune_share": 0.1}
    old = TrainConfig(**kept, warmup=0.0, image_size=224, threads=1)
    assert take(old).stem == "cifar"
