"""Recipes are settings that exitkit takes as they are, and say whose they are."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import nn

from exitkit import config, names
from exitkit.config import TrainConfig
from exitkit.models.exitnet import ExitNet
from exitkit.objectives import build

SOURCES = (
    "arXiv", "ACM", "FITEE", "Progressive Self-Knowledge", "CVPR", "ICCV", "ECCV", "ACCV", "AAAI",
    "NeurIPS", "TPAMI", "Pattern Recognition",
)  # fmt: skip
RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))


def read(path: Path) -> TrainConfig:
    return config.parse(config.read_recipe(path), str(path))


def by_name(name: str) -> TrainConfig:
    (path,) = (path for path in RECIPES if path.stem == name)
    return read(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_settings_and_method_are_understood(path: Path) -> None:
    assert build.parse(read(path).method)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_begins_with_its_source(path: Path) -> None:
    text = path.read_text()
    comment = text[: text.index("\nmethod = ")]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert any(word in comment for word in SOURCES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_papers_protocol_is_whole_or_not_there(path: Path) -> None:
    # The papers train on all training images, and few warm up.
    found = read(path)
    if found.paper_protocol:
        assert found.tune_share == 0.0
        assert (found.warmup == 0.0) != ("warm" in path.read_text()[: path.read_text().index("=")])
        assert found.epochs is not None
        assert all(1 < epoch < found.epochs for epoch in found.milestones)
    else:
        assert found.tune_share != 0.0
        assert max(found.milestones) < 1


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_objective_takes_the_network(path: Path) -> None:
    from exitkit.models import build as models

    found = read(path)
    size = found.image_size or 32
    stem = names.usual_stem(found.arch, size)
    teaches_all = build.teaches(found.method) == "all"
    exits = None if teaches_all else (names.NETWORKS[found.arch].exits,)

    def another(first: int, wanted: Sequence[int]) -> nn.Module:
        return models.build(found.arch, 5, size, found.heads, 0.25, wanted, first, stem)

    network = models.build(found.arch, 5, size, found.heads, 0.25, exits, 1, stem)
    assert isinstance(network, ExitNet)
    assert build.build(found.method, models.blueprint(network, 5, 20, size, another))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_heads_are_the_papers(path: Path) -> None:
    found = read(path)
    kinds = {names.METHODS[name].heads for name, _ in build.parse(found.method)} - {None}
    if kinds and found.data != "digits":  # the digits' recipe is what no options give
        assert {found.heads} == kinds


def test_the_digits_recipe_is_what_no_options_give() -> None:
    from exitkit.data.digits import DEFAULTS

    found, usual = by_name("digits-mate"), TrainConfig()
    assert (found.method, found.arch, found.heads) == (usual.method, usual.arch, usual.heads)
    assert found.data == usual.data
    for name in ("epochs", "batch_size", "lr", "schedule", "tune_share", "warmup"):
        assert getattr(found, name) == getattr(DEFAULTS, name), name


def test_steps_of_the_learning_rate_fall_on_the_papers_epochs() -> None:
    mate = by_name("cifar100-mate-resnet18")
    assert [round(share * 200) for share in mate.milestones] == [75, 130, 180]
    assert by_name("cifar100-pskd-byot").milestones == (150.0, 225.0)
    assert by_name("cifar100-ffsd").milestones == (150.0, 225.0)
    assert by_name("cifar100-lightskd").milestones == (60.0, 120.0, 160.0)
    assert by_name("cifar100-lightskd").gamma == 0.2


def test_warming_up_takes_the_papers_epochs() -> None:
    for name, epochs in (("imagenet-ffsd", 5), ("cifar100-tfkd", 1)):
        found = by_name(name)
        assert found.warmup is not None
        assert found.epochs is not None
        assert round(found.warmup * found.epochs, 1) == epochs


def test_the_labels_of_the_deepest_exit_weigh_what_the_paper_gives_them() -> None:
    parts = dict(build.parse(by_name("cifar100-pskd-byot").method))
    assert parts == {
        "pskd": {"alpha": 0.8},
        "byot": {"alpha": 0.1, "temperature": 3.0, "hint": 1e-6, "last": 1.9},
        "dmfl": {},
    }
