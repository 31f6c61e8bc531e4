"""From settings to what is trained: data, network, objective, optimisers, trainer."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from exitkit import names
from exitkit.data.extras import Extras
from exitkit.data.loader import Loader
from exitkit.data.split import DataSets
from exitkit.errors import DataError
from exitkit.models import costs
from exitkit.models.build import blueprint, build
from exitkit.models.exitnet import ExitNet
from exitkit.objectives import build as objectives
from exitkit.objectives import table
from exitkit.objectives.base import Objective
from exitkit.objectives.step import Step
from exitkit.records import Batch
from exitkit.runs import NetworkCard
from exitkit.train import checkpoint, published, regime, weights
from exitkit.train.optim import Optimisers, Schedule
from exitkit.train.settings import Resolved
from exitkit.train.trainer import Plan, Trainer


@dataclass(frozen=True)
class Parts:
    """What one run is made of, before its first step.

    Attributes:
        step: network and objective, on the device.
        loader: the training batches.
        card: what was built.
        warnings: where the weights came from, and that leaving early costs more than it saves,
            where it does.
    """

    step: Step
    loader: Loader
    card: NetworkCard
    warnings: tuple[str, ...]

    def first_batches(self) -> list[Batch]:
        """Return the first two batches of the first epoch; a lone one twice."""
        batches = list(islice(self.loader.epoch(0), 2))
        return batches if len(batches) == 2 else batches * 2


def assemble(
    config: Resolved, data: DataSets, device: torch.device, resumed: bool = False
) -> Parts:
    """Build network, objective and loader; the seed decides every fresh weight.

    Args:
        config: settings.
        data: what `config` names.
        device: where training happens.
        resumed: whether a checkpoint will bring all weights, so that no others are looked for.
    """
    checkpoint.seed_generators(config.seed)
    classes, size = len(data.classes), data.image.height
    exits = objectives.exits(config.method, names.exits(config.arch, config.at))

    def another(first: int, wanted: Sequence[int]) -> ExitNet:
        kind = (config.arch, classes, size, config.heads, config.width)
        return build(*kind, wanted, first, config.stem, config.at)

    given = None if resumed else published.network(config, classes, size, exits)
    network, told = (another(1, exits), None) if given is None else given
    counted = costs.count(network, size)
    if config.weights != weights.FRESH and given is None and not resumed:
        whole = config.regime == "frozen"
        told = weights.load_weights(network, Path(config.weights), data.classes, whole)
    plan = blueprint(network, classes, len(data.train), size, another)
    objective = objectives.build(config.method, plan)
    if config.regime == "frozen":
        network.freeze()
    step = Step(network, objective, config.source, _class_weights(config, data))
    step.to(device).to(memory_format=torch.channels_last)
    return Parts(
        step,
        _loader(config, data, step.objective, device),
        _card(config, data, network, counted),
        tuple(filter(None, [told, costs.warning(counted, config.heads), *table.notes(objective)])),
    )


def trainer(config: Resolved, parts: Parts, data: DataSets, device: torch.device) -> Trainer:
    """Return the trainer of the parts at its first epoch; `config` has a measured precision."""
    milestones = tuple(share / config.epochs if share > 1 else share for share in config.milestones)
    schedule = Schedule(config.schedule, config.warmup, milestones, config.gamma)
    groups = parts.step.objective.param_groups()
    optimisers = Optimisers(parts.step.network, groups, config, schedule)
    plan = Plan(
        config.epochs,
        device,
        config.precision,
        data.image,
        regime.alone(config.regime, config.backbone_share, config.epochs),
        config.ema,
    )
    return Trainer(parts.step, optimisers, plan)


def _class_weights(config: Resolved, data: DataSets) -> Tensor | None:
    """Return a factor per class: N / (C n_c), which is 1 in the mean over the images."""
    if config.class_weights == "none":
        return None
    counts = torch.bincount(data.train.labels.cpu(), minlength=len(data.classes)).float()
    return counts.sum() / (len(counts) * counts.clamp(min=1))


def _loader(config: Resolved, data: DataSets, wants: Objective, device: torch.device) -> Loader:
    extras = Extras(
        config.autoaugment, config.cutout, config.cutout_holes, config.mixup, config.cutmix
    )
    loader = Loader(
        data.train,
        data,
        config.batch_size,
        config.seed,
        device,
        wants.views,
        config.augment,
        extras,
        partners="partners" in wants.reads,
    )
    if loader.steps == 0:
        raise DataError(
            f"training images of {data.name}", f"{len(data.train)}", "training needs at least 2"
        )
    return loader


def _card(config: Resolved, data: DataSets, network: ExitNet, counted: costs.Costs) -> NetworkCard:
    return NetworkCard(
        arch=config.arch,
        heads=config.heads,
        width=config.width,
        classes=data.classes,
        image=data.image,
        exits=network.exits,
        macs=counted.leaving(network.exits),
        parameters=counted.parameters(network.exits),
        plain_macs=counted.plain,
        method=config.method,
        stem=config.stem,
        at=config.at,
    )
