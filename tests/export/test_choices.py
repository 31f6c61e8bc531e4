import pytest

from exitkit.errors import ConfigError
from exitkit.export import choices
from exitkit.images import ImageSpec
from exitkit.runs import NetworkCard


def card(method: str, exits: tuple[int, ...]) -> NetworkCard:
    spec, costs = ImageSpec(32, 32, (0, 0, 0), (1, 1, 1)), (1,) * len(exits)
    return NetworkCard("resnet18", "light", 1.0, ("a", "b"), spec, exits, costs, costs, 1, method)


MATE, DSR = card("mate", (1, 2, 3, 4)), card("dsr", (4,))


def test_exits_are_kept_shallow_to_deep_whatever_the_order() -> None:
    assert choices.exits(MATE, None) == (1, 2, 3, 4)
    assert choices.exits(MATE, (2, 4)) == (2, 4)
    assert choices.exits(MATE, (4, 2)) == (2, 4)
    assert choices.exits(MATE, (2,)) == (2,)
    assert choices.exits(DSR, None) == (4,)


def test_an_unknown_exit_names_the_choices() -> None:
    with pytest.raises(ConfigError) as caught:
        choices.exits(MATE, (2, 5))
    assert str(caught.value) == "exit 5: resnet18 has exits 1, 2, 3, 4; choose from 1, 2, 3, 4"
    assert caught.value.exit_code == 2
    with pytest.raises(ConfigError, match="exit 0: "):
        choices.exits(MATE, (0,))


@pytest.mark.parametrize(
    ("method", "better"),
    [("dsr", "dsr+deep"), ("pskd(alpha=0.6)", "pskd(alpha=0.6)+deep"), ("ce", "deep")],
)
def test_an_untaught_exit_names_the_sum_that_teaches_it(method: str, better: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choices.exits(card(method, (4,)), (2, 4))
    assert str(caught.value) == (
        f"exit 2: method {method} does not teach it, this run has 4; "
        f"train with --method '{better}', or choose from 4"
    )


def test_the_sum_that_is_named_teaches_all_exits() -> None:
    from exitkit.objectives.build import OBJECTIVES, teaches

    for method, objective in OBJECTIVES.items():
        if objective.teaches == "deepest":
            assert teaches(choices.taught_by(method)) == "all"


def test_exits_that_the_method_was_told_to_leave_out_are_named() -> None:
    with pytest.raises(ConfigError, match=r"--method 'pskd\+byot\(last=1.9, first=1\)'"):
        choices.exits(card("pskd+byot(last=1.9, first=3)", (3, 4)), (2, 4))


def test_no_exit_and_the_same_exit_twice_are_refused() -> None:
    with pytest.raises(ConfigError, match="nothing would answer"):
        choices.exits(MATE, ())
    with pytest.raises(ConfigError, match="exits 2, 2: one is named twice"):
        choices.exits(MATE, (2, 2))


@pytest.mark.parametrize("name", ["latest", "", "../x", "a/b", ".hidden"])
def test_a_bundle_has_a_plain_name(name: str) -> None:
    with pytest.raises(ConfigError, match="is no plain name"):
        choices.name(name, "run-1")
    assert choices.name(None, "run-1") == "run-1"
    assert choices.name("plain", "run-1") == "plain"


def test_a_part_is_not_named_like_the_whole() -> None:
    assert choices.name(None, "run-1", "network") == "run-1"
    assert choices.name(None, "run-1", "backbone") == "run-1-backbone"
    assert choices.name("plain", "run-1", "backbone") == "plain"


def test_the_leader_is_what_a_run_with_ffsd_ships() -> None:
    assert choices.exits(card("ffsd(students=2)", (4,)), None, "leader") == (4,)
    both = card("ffsd+deep", (1, 2, 3, 4))
    assert choices.exits(both, None, "leader") == (1, 2, 3, 4)
    assert choices.exits(both, (2, 4), "leader") == (2, 4)
    with pytest.raises(ConfigError, match="trained by mate, and only ffsd has a leader"):
        choices.exits(MATE, None, "leader")


def test_the_backbone_answers_at_its_own_end() -> None:
    assert choices.exits(MATE, None, "backbone") == (4,)
    assert choices.exits(MATE, (4,), "backbone") == (4,)
    with pytest.raises(ConfigError, match=r"backbone with exits 2, 4: .* exit 4, alone"):
        choices.exits(MATE, (2, 4), "backbone")
    with pytest.raises(ConfigError, match="no such part to export"):
        choices.exits(MATE, None, "decoder")
