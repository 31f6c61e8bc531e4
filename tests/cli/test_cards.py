import pytest

from exitkit import names

from .conftest import Exitkit


def test_methods_lists_all(exitkit: Exitkit) -> None:
    assert [one["name"] for one in exitkit("methods", "--json").table["methods"]] == list(
        names.METHODS
    )


@pytest.mark.parametrize("name", names.METHODS)
def test_a_card_shows_options_and_where_each_gradient_goes(exitkit: Exitkit, name: str) -> None:
    said, card = exitkit("methods", name), exitkit("methods", name, "--json").table
    assert said.code == 0
    assert card["source"] in said.out
    for option in card["options"]:
        assert f"\n{option} " in said.out
    for flow in card["flow"]:
        assert f"\n{flow['term']} " in said.out


def test_an_unknown_method_is_refused(exitkit: Exitkit) -> None:
    said = exitkit("methods", "maet")
    assert said.code == 2
    assert "did you mean 'mate'" in said.err


def test_models_count_every_network_and_warn_of_dear_exits(exitkit: Exitkit) -> None:
    light = exitkit("models", "--json").table
    assert [one["name"] for one in light["models"]] == list(names.NETWORKS)
    for one in light["models"]:
        assert one["warning"] is None
        macs = [row["macs"] for row in one["exits"]]
        assert macs == sorted(macs)
        assert macs[-1] > one["plain_macs"]  # the heads on the way are paid
    dear = exitkit("models", "--heads", "bottle", "--classes", "100")
    assert "warning: leaving at exit" in dear.out
    assert "100 classes" in dear.out
