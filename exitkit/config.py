"""The settings of a training run, each spelled once.

The options of the command line, recipes and `--set` are made from these fields.
"""

import dataclasses
import math
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exitkit import names
from exitkit.errors import ConfigError, unknown

CHOICES = {
    "regime": ("joint", "frozen", "mixed"),
    "learn_from": ("labels", "last"),
    "class_weights": ("none", "balanced"),
    "autoaugment": ("none", "cifar", "imagenet"),
}
ABOVE_ZERO = (
    "epochs", "batch_size", "image_size", "threads", "lr", "width", "backbone_share",
    "cutout_holes",
)  # fmt: skip
NOT_NEGATIVE = (
    "momentum", "weight_decay", "gamma", "workers", "cache_mb", "clip", "mixup", "cutmix", "cutout",
)  # fmt: skip


def _setting(default: Any, text: str, flag: bool = False) -> Any:  # Any: a dataclass field
    """Describe one setting; `flag` gives it an option of its own beside `--set`."""
    return field(default=default, metadata={"help": text, "flag": flag})


@dataclass(frozen=True)
class TrainConfig:
    """What one training run is told. A setting left at None takes the data set's default."""

    method: str = _setting("mate", "objective, or a sum such as 'pskd+byot(last=1.9)'", flag=True)
    arch: str = _setting(
        "mobilenetv2",
        "network (exitkit models), or one from elsewhere: torchvision:NAME, timm:NAME, "
        "python:MODULE:FUNCTION",
        flag=True,
    )
    at: tuple[str, ...] = _setting(
        (), "modules of a network from elsewhere after which exits are put: a,b,c", flag=True
    )
    data: str = _setting(
        "digits",
        "digits, cifar10, cifar100, a folder with train/ and test/, or an unpacked ImageNet, "
        "Tiny-ImageNet, Caltech-101, CUB-200-2011 or Stanford Dogs",
        flag=True,
    )
    epochs: int | None = _setting(None, "passes over the training images", flag=True)
    width: float = _setting(1.0, "multiplier of every layer's channels", flag=True)
    heads: str = _setting(
        "light", "kind of the exits' heads, or paper: that of the method's paper", flag=True
    )
    stem: str = _setting("auto", "cifar, imagenet, or auto: imagenet from 128 pixels on")
    batch_size: int | None = _setting(None, "images per step", flag=True)
    lr: float | None = _setting(None, "learning rate at the start of the schedule", flag=True)
    image_size: int | None = _setting(None, "pixels per side that the network sees", flag=True)
    seed: int = _setting(0, "of initialisation, order and augmentation", flag=True)
    device: str = _setting("auto", "auto (a GPU if there is one), cpu, cuda or cuda:N", flag=True)
    precision: str = _setting("auto", "auto (measures both), float32 or bf16", flag=True)
    regime: str = _setting(
        "joint",
        "joint, frozen (only the early exits learn) or mixed (backbone alone, then all)",
        flag=True,
    )
    weights: str = _setting(
        names.FRESH,
        "where the network begins: fresh, a run or file that it fits, or default: the published "
        "ones of torchvision or timm",
        flag=True,
    )
    paper_protocol: bool = _setting(
        False,
        "as the papers do: pick the best epoch on the TEST set, schedules in epochs",
        flag=True,
    )
    momentum: float = _setting(0.9, "of SGD")
    nesterov: bool = _setting(False, "whether SGD looks ahead")
    weight_decay: float = _setting(5e-4, "of SGD")
    schedule: str | None = _setting(None, "of the learning rate: cosine or step")
    milestones: tuple[float, ...] = _setting(
        (0.375, 0.65, 0.9), "shares of the run at which the step schedule multiplies by gamma"
    )
    gamma: float = _setting(0.1, "factor of the step schedule")
    warmup: float | None = _setting(
        None, "share of the run in which the learning rate rises linearly"
    )
    tune_share: float | None = _setting(None, "share of the training images held out as tune split")
    augment: bool = _setting(True, "whether training images are shifted, flipped or rotated")
    cache_mb: int = _setting(2048, "decoded image folders up to this many megabytes live in memory")
    workers: int = _setting(2, "worker processes that decode larger folders")
    threads: int | None = _setting(None, "processor threads of torch")
    backbone_share: float = _setting(
        0.5, "of the mixed regime: share of the epochs in which the backbone learns alone"
    )
    learn_from: str = _setting(
        "labels", "of the frozen regime: labels, or last: the last exit's predictions, no labels"
    )
    ema: float = _setting(0.0, "decay of averaged weights, which are kept instead; 0 is off")
    clip: float = _setting(0.0, "longest gradient of every network; 0 is off")
    class_weights: str = _setting(
        "none", "of the labels' cross-entropies: none, or balanced: rare classes count more"
    )
    mixup: float = _setting(0.0, "alpha of mixup: images blended with another; 0 is off")
    cutmix: float = _setting(0.0, "alpha of cutmix: a box of another image pasted in; 0 is off")
    autoaugment: str = _setting("none", "policy of AutoAugment: none, cifar or imagenet")
    cutout: int = _setting(0, "pixels per side of the squares that cutout blanks; 0 is off")
    cutout_holes: int = _setting(1, "how many squares cutout blanks in every image")

    def __post_init__(self) -> None:
        if not names.foreign(self.arch) and self.arch not in names.NETWORKS:
            raise unknown("network", self.arch, (*names.NETWORKS, *names.SOURCES.values()))
        _refuse_places(self)
        if self.heads not in (*names.HEADS, names.PAPER):
            raise unknown("kind of heads", self.heads, (*names.HEADS, names.PAPER))
        if self.stem not in ("auto", *names.STEMS):
            raise unknown("stem", self.stem, ("auto", *names.STEMS))
        if self.precision not in ("auto", "float32", "bf16"):
            raise unknown("precision", self.precision, ("auto", "float32", "bf16"))
        if self.schedule not in (None, "cosine", "step"):
            raise unknown("schedule", self.schedule, ("cosine", "step"))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), choices)
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{name} {value}", "is no finite number", "give another one")
        if not -(2**63) <= self.seed < 2**63:
            raise ConfigError(
                f"seed {self.seed}", "does not fit into 64 bits", "give a shorter one"
            )
        for name in ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name} {value}", "is not above zero", "give a larger number")
        for name in NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"{name} {getattr(self, name)}", "is below zero", "give 0 or more"
                )
        for milestone in self.milestones:
            if not 0 < milestone < math.inf:
                raise ConfigError(
                    f"milestone {milestone:g}", "is no share above zero", "give 0.5, 0.75 or so"
                )
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov", "there is no momentum to look ahead with", "set momentum")
        for name in ("warmup", "tune_share", "backbone_share", "ema"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"{name} {value}", "is no share", "give 0 or more, below 1")


def _refuse_places(config: TrainConfig) -> None:
    """Refuse what only networks of exitkit have, or only those from elsewhere."""
    if not names.foreign(config.arch):
        told = {"at": config.at, "weights default": config.weights in names.PUBLISHED}
        for name, given in told.items():
            if given:
                raise ConfigError(
                    f"{name} with --arch {config.arch}",
                    "only networks from elsewhere have that",
                    f"leave it out, or give --arch {', '.join(names.SOURCES.values())}",
                )
        return
    usual = {"width": 1.0, "heads": "light", "stem": "auto"}
    for name, value in usual.items():
        if getattr(config, name) not in (value, "cifar" if name == "stem" else value):
            raise ConfigError(
                f"{name} {getattr(config, name)} with --arch {config.arch}",
                "a network from elsewhere keeps its own width and stem, and has light heads",
                f"leave {name} out",
            )


def parse(settings: dict[str, Any], where: str) -> TrainConfig:
    """Make a config from names and values; strings are read as the field's type.

    Raises:
        ConfigError: a name that is no setting, or a value of another type; `where` says whose.
    """
    hints = typing.get_type_hints(TrainConfig)
    for name in settings:
        if name not in hints:
            raise unknown("setting", name, hints, where)
    return TrainConfig(**{k: _convert(k, v, hints[k], where) for k, v in settings.items()})


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a flat TOML recipe into names and values, to be given to `parse`."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"recipe {path}", f"cannot be read ({error})", "give a flat TOML file"
        ) from error


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Return the settings as JSON can hold them; `parse` takes them back."""
    return dataclasses.asdict(config)


def _convert(name: str, value: Any, hint: Any, where: str) -> Any:
    kinds = typing.get_args(hint) if typing.get_origin(hint) is types.UnionType else (hint,)
    if value is None and type(None) in kinds:
        return None
    kind = next(k for k in kinds if k is not type(None))
    if value is None and "none" in CHOICES.get(name, ()):
        return "none"  # `--set name=none` has been read as nothing
    try:
        if typing.get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            make = typing.get_args(kind)[0]
            return tuple(make(part.strip() if isinstance(part, str) else part) for part in parts)
        if kind is bool:
            if isinstance(value, str):
                return {"true": True, "false": False}[value.lower()]
            if not isinstance(value, bool):
                raise ValueError(value)
            return value
        if kind is int and isinstance(value, float) and value != int(value):
            raise ValueError(value)
        return kind(value)
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ConfigError(
            f"{name}={value!r} (in {where})",
            "has another type",
            f"give {getattr(kind, '__name__', kind)}",
        ) from error
