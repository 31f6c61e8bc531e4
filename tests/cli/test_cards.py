import pytest

from exitkit import names

from .conftest import Exitkit


def test_methods_lists_all(exitkit: Exitkit) -> None:
    assert [one["name"] for one in exitkit("methods", "--json").table["methods"]] == list(
        names.METHODS
    )


def test_the_list_has_source_and_options_of_each(exitkit: Exitkit) -> None:
    said = exitkit("methods")
    words = " ".join(said.out.split())
    for one in exitkit("methods", "--json").table["methods"]:
        method = names.METHODS[one["name"]]
        assert (one["options"], one["heads"]) == (method.options, method.heads)
        assert f" {method.title} {method.source}" in words
        for option in method.options:
            assert f" {option}=" in words
    assert " ramp=0.2667 " in words
    assert " fusion='adaptive'" in words  # as it must be written
    assert all(len(line) <= 120 for line in said.out.splitlines())


@pytest.mark.parametrize("sum_", ["pskd+byot", "byot(last=1.9)"])
def test_a_sum_has_no_card(exitkit: Exitkit, sum_: str) -> None:
    said = exitkit("methods", sum_)
    assert said.code == 2
    assert "a card tells of one method" in said.err


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
        macs = [row["macs"] for row in one["exits"]]
        assert macs == sorted(macs)
        assert macs[-1] > one["plain_macs"]  # the heads on the way are paid
        assert [row["share"] for row in one["exits"]] == [m / one["plain_macs"] for m in macs]
        assert all(row["macs_alone"] <= row["macs"] for row in one["exits"])
        assert one["exits"][-1]["macs_alone"] == one["plain_macs"]
        assert one["exits"][-1]["parameters_alone"] == one["plain_parameters"]
        assert one["exits"][-1]["parameters"] == one["trained_parameters"]
    # stage 4 of ShuffleNetV1 is cheaper than the three heads before it
    assert [one["name"] for one in light["models"] if one["warning"]] == ["shufflenetv1"]
    dear = exitkit("models", "--heads", "bottle", "--classes", "100")
    assert "resnet18: warning: leaving at exit" in dear.out
    assert "100 classes" in dear.out


def test_models_have_the_parameters_of_the_papers(exitkit: Exitkit) -> None:
    found = exitkit("models", "--json", "--classes", "100", "--heads", "byot").table["models"]
    (resnet,) = (one for one in found if one["name"] == "resnet50")
    assert [row["parameters_alone"] for row in resnet["exits"]] == [
        18_388_644, 7_156_388, 11_371_172, 23_705_252,
    ]  # fmt: skip
    assert resnet["trained_parameters"] == 50_430_928


def test_large_images_are_counted_with_the_stem_that_training_takes(exitkit: Exitkit) -> None:
    found = exitkit("models", "--json", "--image-size", "224", "--classes", "1000").table["models"]
    stems = {one["name"]: one["stem"] for one in found}
    assert stems["resnet50"] == "imagenet"
    assert stems["resnet20"] == "cifar"
    (resnet,) = (one for one in found if one["name"] == "resnet50")
    assert resnet["plain_parameters"] == 25_557_032
    assert "resnet50, imagenet stem" in exitkit("models", "--image-size", "224").out
