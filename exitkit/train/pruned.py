"""What a run is made of where its network was pruned: the same parts, cut to its card."""

from dataclasses import replace
from functools import partial

import torch

from exitkit.data.split import DataSets
from exitkit.errors import CheckpointError
from exitkit.models import build, costs
from exitkit.objectives import build as objectives
from exitkit.objectives import table
from exitkit.objectives.step import Step
from exitkit.runs import NetworkCard, Run
from exitkit.train import checkpoint
from exitkit.train.assemble import Parts
from exitkit.train.settings import Resolved


def require_start(run: Run) -> None:
    """Refuse to resume a run that was stopped before its pruned weights lay on the disk.

    Raises:
        CheckpointError: it has no checkpoint.
    """
    if not run.checkpoint.exists():
        raise CheckpointError(
            f"resuming run {run.name}",
            "it was stopped before its pruned weights were written",
            "remove its folder, and prune again",
        )


def fit(
    parts: Parts, config: Resolved, data: DataSets, card: NetworkCard, device: torch.device
) -> Parts:
    """Return parts whose network is the card's, with an objective made for it; weights are fresh.

    The objective's own networks and branches have the pruned widths too. The seed decides every
    fresh weight.

    Args:
        parts: of the same run as if nothing had been pruned; the loader is taken over.
        config: its settings.
        data: what they name.
        card: of the pruned network.
        device: where training happens.
    """
    checkpoint.seed_generators(config.seed)
    network, size = build.rebuild(card), data.image.height
    counted = costs.count(network, size)
    another = partial(build.another, card)
    plan = build.blueprint(network, len(data.classes), len(data.train), size, another)
    objective = objectives.build(config.method, plan)
    if config.regime == "frozen":
        network.freeze()
    step = Step(network, objective, config.source, parts.step.class_weights)
    step.to(device).to(memory_format=torch.channels_last)
    told = costs.warning(counted, card.heads)
    warnings = tuple(filter(None, [told, *table.notes(objective)]))
    return replace(parts, step=step, card=card, warnings=warnings)
