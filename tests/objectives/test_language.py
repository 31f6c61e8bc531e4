"""The sum language takes what it documents and refuses the rest with the way out."""

import pytest

from exitkit.errors import ConfigError
from exitkit.objectives import build


def test_names_options_and_sums_are_read() -> None:
    assert build.parse("ce") == [("ce", {})]
    assert build.parse(" pskd(alpha=0.5) + byot(last=1.9, hint=0)+dsr ") == [
        ("pskd", {"alpha": 0.5}),
        ("byot", {"last": 1.9, "hint": 0.0}),
        ("dsr", {}),
    ]


def test_literals_of_every_kind() -> None:
    assert build.parse("mate(reverse=True)") == [("mate", {"reverse": True})]
    assert build.parse("one(branches=+4)") == [("one", {"branches": 4})]
    assert build.parse("byot(alpha=-1)") == [("byot", {"alpha": -1.0})]
    assert build.parse("byot(hint=1e-7)") == [("byot", {"hint": 1e-7})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mat", "method 'mat': no such method; did you mean 'mate'"),
        ("pskd(alfa=1)", "option of method 'pskd' 'alfa': .*did you mean 'alpha'"),
        ("pskd(0.8)", "'0.8' without an option's name; its options are: alpha=0.8"),
        ("ce(alpha=1)", "option 'alpha' of method 'ce': it has no options"),
        ("pskd+byot+pskd", "'pskd' stands in it twice; keep one"),
        ("pskd(alpha=0.8, alpha=0.9)", "'pskd' is given 'alpha' twice"),
        ("pskd(alpha='high')", "the option is a float; write it as in alpha=0.8"),
        ("pskd(alpha=True)", "the option is a float"),
        ("pskd(alpha=1e999)", "the option is a float"),
        ("one(branches=2.5)", "the option is a int"),
        ("mate(reverse=1)", "the option is a bool; write it as in reverse=False"),
        ("pskd(alpha=None)", "'None' is not understood; write names joined by"),
        ("pskd(alpha=b)", "'b' is not understood"),
        ("pskd(alpha=-'a')", "\"-'a'\" is not understood"),
        ("pskd(alpha=1+1)", r"'1 \+ 1' is not understood"),
        ("pskd(**{'alpha': 1})", "is not understood"),
        ("pskd-byot", "'pskd - byot' is not understood"),
        ("pskd.a", "'pskd.a' is not understood"),
        ("f()()", r"'f\(\)\(\)' is not understood"),
        ("2", "'2' is not understood"),
        ("pskd+", "cannot be read"),
        ("", "cannot be read"),
        ("pskd\0", "cannot be read"),
        ("(" * 1000, "cannot be read"),
    ],
)
def test_everything_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build.parse(text)
    assert caught.value.exit_code == 2


def test_a_sum_of_a_thousand_parts_is_refused_and_not_a_crash() -> None:
    with pytest.raises(ConfigError, match=r"stands in it twice|cannot be read"):
        build.parse("+".join(["ce"] * 1000))


def test_what_a_sum_teaches_and_reads() -> None:
    assert build.teaches("pskd+dsr") == "deepest"
    assert build.teaches("pskd+byot") == "all"
    assert build.reads("cskd+pskd+dlb", "index") == ["pskd"]
    assert build.reads("cskd+pskd+dlb", "partners") == ["cskd"]


@pytest.mark.parametrize(
    ("text", "exits"),
    [
        ("pskd", (4,)),
        ("byot", (1, 2, 3, 4)),
        ("pskd+byot(first=2)+dmfl", (2, 3, 4)),
        ("byot(first=3)", (3, 4)),
        # out of range: the method sees them all, and refuses
        ("byot(first=4)", (1, 2, 3, 4)),
        ("byot(first=0)", (1, 2, 3, 4)),
    ],
)
def test_which_exits_a_sum_teaches(text: str, exits: tuple[int, ...]) -> None:
    assert build.exits(text, 4) == exits
