"""What the user asked to keep, checked against what the run has."""

import re
from collections.abc import Sequence

from exitkit import names
from exitkit.errors import ConfigError, unknown
from exitkit.runs import LATEST, NetworkCard

WHAT = ("network", "leader", "backbone")


def exits(card: NetworkCard, asked: Sequence[int] | None, what: str = "network") -> tuple[int, ...]:
    """Return the kept exits, shallow to deep; all that the run has where none are asked for.

    Args:
        card: of the run's network.
        asked: numbers.
        what: "network"; "leader", FFSD's leader, which is the network that such a run ships
            (students, fusion and decoders are the objective's and never leave the run); or
            "backbone", the plain network without its early exits.

    Raises:
        ConfigError: an exit that does not exist (with the choices), that the run's method does
            not teach (with the sum that would), or that is named twice; a leader of a run
            without FFSD; exits of a backbone.
    """
    if what not in WHAT:
        raise unknown("part to export", what, WHAT)
    if what == "leader" and not re.search(r"\bffsd\b", card.method):
        raise ConfigError(
            "--what leader",
            f"this run was trained by {card.method}, and only ffsd has a leader",
            "leave --what out, or train with --method ffsd",
        )
    if what == "backbone":
        deepest = names.exits(card.arch, card.at)
        if asked is not None and tuple(asked) != (deepest,):
            raise ConfigError(
                f"--what backbone with exits {_words(asked)}",
                f"the backbone answers at its own end, exit {deepest}, alone",
                "leave one of the two out",
            )
        return (deepest,)
    if asked is None:
        return card.exits
    choices = f"choose from {_words(card.exits)}"
    if not asked:
        raise ConfigError("an export without exits", "nothing would answer", choices)
    for k in asked:
        if k in card.exits:
            continue
        possible = range(1, names.exits(card.arch, card.at) + 1)
        if k not in possible:
            found = f"{card.arch} has exits {_words(possible)}"
            raise ConfigError(f"exit {k}", found, choices)
        raise ConfigError(
            f"exit {k}",
            f"method {card.method} does not teach it, this run has {_words(card.exits)}",
            f"train with --method '{taught_by(card.method)}', or {choices}",
        )
    if len(set(asked)) != len(asked):
        raise ConfigError(f"exits {_words(asked)}", "one is named twice", "name each once")
    return tuple(sorted(asked))


def taught_by(method: str) -> str:
    """Return the sum of methods that teaches every exit."""
    everything = re.sub(r"\bfirst\s*=\s*\d+", "first=1", method)
    if everything != method:
        return everything
    return "deep" if method == "ce" else f"{method}+deep"


def name(asked: str | None, run: str, what: str = "network") -> str:
    """Return the bundle's name: what was asked for, or the run's.

    A part of the network is named after run and part, so that it replaces no bundle of the whole.

    Raises:
        ConfigError: it is no plain name.
    """
    own = run if what == "network" else f"{run}-{what}"
    chosen = own if asked is None else asked
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", chosen) or chosen == LATEST:
        raise ConfigError(
            f"bundle name {chosen!r}", "is no plain name", "use letters, digits, . _ + -"
        )
    return chosen


def _words(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
