"""Checks of what a method is given; each refuses with the name of what is wrong."""

import math
from collections.abc import Mapping

from exitkit.errors import ConfigError
from exitkit.records import Blueprint


def at_least(option: str, value: float | int, low: float | int) -> None:
    """Refuse a value below `low`."""
    if not value >= low or math.isinf(value):
        raise ConfigError(f"{option}={value}", f"is not {low} or more", f"give {low} or more")


def not_negative(**weights: float | int) -> None:
    """Refuse weights below 0, given by their options' names."""
    for option, weight in weights.items():
        at_least(option, weight, 0)


def above_zero(option: str, value: float | int) -> None:
    """Refuse a value that is not positive."""
    if not value > 0 or math.isinf(value):
        raise ConfigError(f"{option}={value}", "is not above 0", "give a positive number")


def taught(method: str, learns: Mapping[str, float], **teaches: float) -> None:
    """Refuse a method whose own networks would teach although nothing teaches them.

    Args:
        method: its name.
        learns: weights from which its own networks learn, by option; one above 0 is enough.
        teaches: the weight with which they teach, by option.
    """
    ((option, weight),) = teaches.items()
    if weight and not any(learns.values()):
        written = ", ".join(f"{name}={value}" for name, value in {**learns, **teaches}.items())
        raise ConfigError(
            f"{method}({written})",
            "a part that knows nothing would teach the network",
            f"give {' or '.join(learns)} above 0, or {option}=0.0 too",
        )


def share(option: str, value: float | int) -> None:
    """Refuse a value that is no share from 0 to 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{option}={value}", "is no share", "give 0 to 1")


def leaves_labels(option: str, base: float, power: int, exits: int) -> None:
    """Refuse a base that leaves the shallowest exit's labels, 2 - base^power, less than nothing."""
    limit = 2 ** (1 / power)
    if base > limit:
        raise ConfigError(
            f"{option}={base} on {exits} exits",
            "gives the shallowest exit's labels a weight below 0",
            f"give at most {int(1000 * limit) / 1000}",
        )


def several_exits(method: str, blueprint: Blueprint) -> None:
    """Refuse a network with a single exit."""
    if len(blueprint.exits) < 2:
        raise ConfigError(
            f"method {method!r} on exits {blueprint.exits}",
            "needs two exits that learn from each other",
            "give the network more exits, or use 'ce'",
        )


def equal_embeddings(method: str, blueprint: Blueprint) -> None:
    """Refuse heads whose embeddings differ in width."""
    if len(set(blueprint.embeddings)) > 1:
        raise ConfigError(
            f"method {method!r}",
            f"compares embeddings, and the exits' are {blueprint.embeddings} wide",
            "use heads that end in one width (--heads light or bottle)",
        )


def feature_maps(method: str, blueprint: Blueprint) -> None:
    """Refuse a network whose stages or heads give tokens instead of maps (D, h, w)."""
    shapes = (*blueprint.hidden, *blueprint.features)
    if any(len(shape) != 3 for shape in shapes):
        raise ConfigError(
            f"method {method!r}",
            "compares feature maps, and this network has tokens",
            "use a convolutional network, or a method that needs logits or embeddings only "
            "(exitkit methods)",
        )


def equal_features(method: str, blueprint: Blueprint) -> None:
    """Refuse heads whose features differ in shape."""
    if len(set(blueprint.features)) > 1:
        raise ConfigError(
            f"method {method!r}",
            f"compares the exits' features, whose shapes are {blueprint.features}",
            "use heads that end in one shape (--heads light or bottle)",
        )


def earlier_stage(method: str, stage: int, blueprint: Blueprint) -> None:
    """Refuse a stage that no other follows."""
    deepest = len(blueprint.hidden)
    if deepest == 1:
        raise ConfigError(
            f"method {method!r}",
            "the network has one stage, and what is added needs an earlier one",
            "cut the network into stages, or use another method",
        )
    if not 1 <= stage < deepest:
        raise ConfigError(
            f"{method}(stage={stage})",
            f"the network has {deepest} stages, and one must follow",
            f"give 1 to {deepest - 1}",
        )
