from pathlib import Path

import pytest

from exitkit.cli import settings
from exitkit.config import TrainConfig, parse
from exitkit.errors import ConfigError


def test_the_options_are_these_and_come_from_the_config() -> None:
    assert [field.name for field in settings.flags()] == [
        "method", "arch", "at", "data", "epochs", "width", "heads", "batch_size", "lr",
        "image_size", "seed", "device", "precision", "regime", "weights", "paper_protocol",
    ]  # fmt: skip


def test_options_override_set_nothing_and_a_recipe_is_overridden(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('arch = "resnet18"\nlr = 0.5\nepochs = 7\nmomentum = 0.8\n')
    typed = {"lr": "0.25", "epochs": None, "paper_protocol": None}
    given = settings.given(recipe, ["epochs = 3", "milestones=0.5,0.75", "tune-share=none"], typed)
    assert parse(given, "here") == TrainConfig(
        arch="resnet18", lr=0.25, epochs=3, momentum=0.8, milestones=(0.5, 0.75)
    )


@pytest.mark.parametrize(
    ("assignments", "typed", "error"),
    [
        (["lr"], {}, "--set lr: has no =; write --set name=value"),
        (["lr=1"], {"lr": "2"}, "--set lr=1: lr is given twice; say it once"),
        (["gamma=1", "gamma=2"], {}, "gamma is given twice"),
        (["gama=1"], {}, "did you mean 'gamma'"),
        ([], {"epochs": "many"}, "epochs='many' .in the command line.: has another type"),
        ([], {"arch": "resnet19"}, "did you mean 'resnet18'"),
    ],
)
def test_wrong_settings_are_refused(
    assignments: list[str], typed: dict[str, str], error: str
) -> None:
    with pytest.raises(ConfigError, match=error):
        settings.given(None, assignments, typed)


def test_a_recipe_with_an_unknown_key_is_named(tmp_path: Path) -> None:
    recipe = tmp_path / "old.toml"
    recipe.write_text("learning_rate = 0.1\n")
    with pytest.raises(ConfigError, match=r"old\.toml"):
        settings.given(recipe, [], {})
