"""A run's network with fewer channels: chosen, cut, proven, counted."""

from dataclasses import dataclass, replace

import torch

from exitkit.errors import CheckpointError, ConfigError
from exitkit.models import build, costs, resize
from exitkit.models.costs import Costs
from exitkit.models.exitnet import ExitNet
from exitkit.runs import NetworkCard, Pruned, Run
from exitkit.train import evaluate, prune_proof, pruner
from exitkit.train.prune_graph import SMALLER
from exitkit.train.pruner import Choice


@dataclass(frozen=True)
class Cut:
    """A network before and after pruning; nothing has been learned in between.

    Attributes:
        whole, network: the run's network and the pruned one, in evaluation mode.
        before, after: what they cost.
        card: of the pruned one.
        choice: what stayed, and what had to stay.
    """

    whole: ExitNet
    network: ExitNet
    before: Costs
    after: Costs
    card: NetworkCard
    choice: Choice


def channels(network: ExitNet) -> int:
    """Return how many channels the layers of a network give in all, those of its heads too."""
    layers = (weight for name, weight in network.state_dict().items() if name.endswith("weight"))
    return sum(weight.shape[0] for weight in layers if weight.ndim > 1)  # a norm's is flat


def cut(run: Run, ratio: float) -> Cut:
    """Prune a run's selected network.

    Args:
        run: is only read.
        ratio: share of the channels that goes, of every layer; above 0, below 1.

    Raises:
        ConfigError: the ratio, or the network cannot be pruned so.
        CheckpointError: the run's weights cannot be read or used.
    """
    if not 0 < ratio < 1:  # false for NaN too
        raise ConfigError(f"--ratio {ratio:g}", "is no share", "give more than 0 and less than 1")
    card = run.read_card()
    whole, digest = evaluate.trained(run)
    if not all(bool(torch.isfinite(weight).all()) for weight in whole.state_dict().values()):
        raise CheckpointError(
            str(run.network), "a weight is not a finite number", "train it again with a lower --lr"
        )
    try:
        network, pruned, choice = narrow(whole, card, Pruned(run.name, digest, ratio, {}))
    except ConfigError as error:
        asked = f"{error.asked} of {card.arch} (run {run.name})"
        raise ConfigError(asked, error.found, error.do) from error
    except CheckpointError as error:
        asked = f"pruning {card.arch} (run {run.name})"
        raise ConfigError(asked, error.found, SMALLER) from error
    size = card.image.height
    before, after = costs.count(whole, size), costs.count(network, size)
    if after.plain >= before.plain:
        raise ConfigError(
            f"pruning {card.arch} (run {run.name}) by {ratio:g}",
            f"no channel goes: {choice.whole} of {choice.sets} sets of channels that belong "
            "together must stay whole",
            SMALLER if choice.whole == choice.sets else "give a larger --ratio",
        )
    counted = replace(
        card,
        macs=after.leaving(card.exits),
        parameters=after.parameters(card.exits),
        plain_macs=after.plain,
        pruned=pruned,
    )
    return Cut(whole, network, before, after, counted, choice)


def narrow(whole: ExitNet, card: NetworkCard, origin: Pruned) -> tuple[ExitNet, Pruned, Choice]:
    """Return a pruned network, where it comes from with all shapes, and what stayed.

    It is built from the card, resized, and proven to answer as `whole` does without its channels.

    Args:
        whole: the card's network with its weights, in evaluation mode; not changed.
        card: of `whole`.
        origin: its ratio decides how much goes; its shapes are not looked at.

    Raises:
        ConfigError: its channels cannot be followed.
        CheckpointError: what is left of its layers does not fit together.
    """
    size = card.image.height
    choice = pruner.choose(whole, size, origin.ratio)
    old = whole.state_dict()
    weights = resize.take(old, choice.kept)
    # Shapes are told against the network as its arch and width make it, pruned before or not.
    shapes = dict(card.pruned.shapes) if card.pruned is not None else {}
    for name, tensor in weights.items():
        if tensor.shape != old[name].shape:
            shapes[name] = tuple(tensor.shape)
    pruned = replace(origin, shapes=shapes)
    network = build.rebuild(replace(card, pruned=pruned))
    network.load_state_dict(weights)
    prune_proof.prove(whole, network, choice.kept, size)
    return network.eval(), pruned, choice
