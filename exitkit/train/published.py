"""A network from elsewhere with weights from elsewhere: its makers', or a file of its own layout.

A function of the user's own (`python:`) may load weights itself; frozen, its network stays as the
function made it.

Such weights know their own classes and expect their own normalisation of the pixels. (Weights of
an exitkit run, also of a wrapped network, are `weights`' business; they too expect theirs.)
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from exitkit import names
from exitkit.config import TrainConfig
from exitkit.data.split import DataSets
from exitkit.models import sources, wrap
from exitkit.models.exitnet import ExitNet
from exitkit.train import weights
from exitkit.train.settings import Resolved


def given(config: TrainConfig) -> bool:
    """Whether the settings ask for such weights."""
    if not names.foreign(config.arch):
        return False
    if config.weights == names.FRESH:
        return config.regime == "frozen"  # only of `python:`, see `combinations`
    if config.weights in names.PUBLISHED:
        return True
    held = sources.read_weights(Path(config.weights))
    return not all(name.startswith(("stages.", "heads.")) for name in held)


def network(
    config: Resolved, classes: int, size: int, exits: Sequence[int]
) -> tuple[ExitNet, str] | None:
    """Return the network with such weights and a line about them; None where none are asked for.

    Raises:
        ConfigError: they cannot be had or are another network's; or the network is to stay as it
            is, and they are for another number of classes.
    """
    if not given(config):
        return None
    keep = config.regime == "frozen"
    made = wrap.named(config.arch, config.at, classes, size, exits, 1, config.weights, keep)
    if config.weights == names.FRESH:
        return made, f"weights of {config.arch}: those with which the function returns it"
    look = sources.look(config.arch)
    told = "" if look is None else f"; images are normalised as they expect: mean {look[0]}"
    return made, f"weights of {config.arch}: {config.weights}{told}"


def seen(data: DataSets, config: TrainConfig) -> DataSets:
    """Return the data, normalised as the weights expect it; unchanged where nobody says how.

    Weights of a run expect what that run saw: frozen, they could not adapt to anything else.
    """
    if given(config):
        look = sources.look(config.arch)
        return data if look is None else _normalised(data, *look)
    before = weights.look(config.weights)
    if before is None or (before.mean, before.std) == (data.image.mean, data.image.std):
        return data
    told = f"images are normalised as in the run of {config.weights}: mean {before.mean}"
    note = f"{data.note}; {told}" if data.note else told
    return replace(_normalised(data, before.mean, before.std), note=note)


def _normalised(data: DataSets, mean: sources.Colours, std: sources.Colours) -> DataSets:
    return replace(data, image=replace(data.image, mean=mean, std=std))
