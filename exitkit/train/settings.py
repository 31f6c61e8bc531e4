"""Settings with nothing left open: what a run's config.json holds."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from exitkit import config, names
from exitkit.config import TrainConfig
from exitkit.data.split import DataSets
from exitkit.errors import ConfigError
from exitkit.objectives import build as objectives

OPEN = ("epochs", "batch_size", "lr", "schedule", "tune_share", "warmup")


@dataclass(frozen=True)
class Resolved(TrainConfig):
    """A TrainConfig in which every setting has a value; only the precision may say "auto"."""

    epochs: int = field(kw_only=True)
    batch_size: int = field(kw_only=True)
    lr: float = field(kw_only=True)
    image_size: int = field(kw_only=True)
    schedule: str = field(kw_only=True)
    tune_share: float = field(kw_only=True)
    warmup: float = field(kw_only=True)
    threads: int = field(kw_only=True)

    @property
    def source(self) -> Literal["labels", "last"]:
        """Where the plain labels come from."""
        return "last" if self.learn_from == "last" else "labels"

    def with_precision(self, precision: str) -> "Resolved":
        """Return the same settings with the precision that was measured."""
        return replace(self, precision=precision)


def take(settings: TrainConfig) -> Resolved:
    """Take settings that were resolved before, as a run's config.json has them.

    Raises:
        ConfigError: one is missing.
    """
    table = config.to_dict(settings)
    for name in (*OPEN, "image_size", "threads"):
        if table[name] is None:
            raise ConfigError(f"setting {name}", "the run does not say it", "train it again")
    if table["stem"] == "auto":  # a run from before there was a choice
        table["stem"] = "cifar"
    return Resolved(**table)


def resolve(asked: TrainConfig, data: DataSets, device: torch.device) -> Resolved:
    """Give every open setting the data set's value.

    Args:
        asked: what the user said.
        data: what it names, loaded.
        device: what "auto" has become.

    Raises:
        ConfigError: settings that contradict each other or the data.
    """
    table = config.to_dict(asked)
    for name in OPEN:
        table[name] = getattr(data.defaults, name) if table[name] is None else table[name]
    if asked.data not in names.DATASETS:
        # The folder must be found again from anywhere.
        table["data"] = str(Path(asked.data).expanduser().resolve())
    if asked.stem == "auto":
        table["stem"] = (
            "cifar"  # says nothing: a network from elsewhere has its own
            if names.foreign(asked.arch)
            else names.usual_stem(asked.arch, data.image.height)
        )
    if asked.heads == names.PAPER:
        table["heads"] = objectives.heads(asked.method)
    table["device"] = str(device)
    table["image_size"] = data.image.height
    table["threads"] = asked.threads or torch.get_num_threads()
    _refuse(asked, table["tune_share"], len(data.tune))
    return Resolved(**table)


def _refuse(asked: TrainConfig, share: float, tune: int) -> None:
    if tune == 0 and not asked.paper_protocol:
        raise ConfigError(
            f"tune_share {share:g}",
            "no image is left to pick the best epoch on",
            "give a larger share, or --paper-protocol",
        )
    late = [share for share in asked.milestones if share > 1]
    if late and not asked.paper_protocol:
        raise ConfigError(
            f"milestone {late[0]:g}",
            "is no share of the run",
            "give shares up to 1, or absolute epochs with --paper-protocol",
        )
