"""What the program says of a method is what its code does."""

import json

import pytest

from exitkit import names
from exitkit.errors import ConfigError
from exitkit.objectives import build, language
from objectives import tiny


@pytest.mark.parametrize("name", build.OBJECTIVES)
def test_the_torch_free_table_says_what_the_code_does(name: str) -> None:
    told, kind = names.METHODS[name], build.OBJECTIVES[name]
    assert told.teaches == kind.teaches
    options = language.options(kind)
    assert told.options == options
    assert {k: type(v) for k, v in told.options.items()} == {k: type(v) for k, v in options.items()}


@pytest.mark.parametrize("name", build.OBJECTIVES)
def test_every_method_is_described_in_full(name: str) -> None:
    card = build.describe(name)
    assert json.loads(json.dumps(card)) == card
    assert tuple(card["sections"]) == build.HEADINGS
    assert all(card["sections"].values())
    assert card["summary"].endswith(".")
    for option, told in card["options"].items():
        assert told["help"].endswith("."), f"what the docstring of {name} says of {option}"
    assert [row["term"] for row in card["flow"]] == list(build.OBJECTIVES[name].flow)


@pytest.mark.parametrize("name", build.OBJECTIVES)
def test_the_values_that_make_a_method_plain_are_options_of_it(name: str) -> None:
    kind = build.OBJECTIVES[name]
    assert set(kind.plain) <= set(language.options(kind))


def test_an_option_may_take_two_lines() -> None:
    assert build.describe("ecsd")["options"]["skip"]["help"] == (
        'whose embedding is not compared: "shallowest", "deepest" (of the shallow exits) or "none".'
    )


def test_options_arrive() -> None:
    objective = build.build("pskd(alpha=0.25)", tiny.blueprint((3,)))
    assert objective.alpha == 0.25


def test_an_unknown_method_has_no_card() -> None:
    with pytest.raises(ConfigError, match="did you mean 'ffsd'"):
        build.describe("ffds")
