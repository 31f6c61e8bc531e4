"""Settings that cannot be combined, or not with the method, refused before anything is built."""

from exitkit import names
from exitkit.config import TrainConfig
from exitkit.errors import ConfigError
from exitkit.objectives import build as objectives
from exitkit.objectives.base import Reads


def refuse(config: TrainConfig) -> None:
    """Refuse settings that contradict each other or the method.

    Raises:
        ConfigError: what could not be trained, or would not do what was asked.
    """
    if config.regime == "mixed" and config.epochs == 1:
        raise ConfigError("--regime mixed", "one epoch is no two phases", "give --epochs 2 or more")
    if config.regime == "mixed" and any(share > 1 for share in config.milestones):
        raise ConfigError(
            "--regime mixed with milestones in epochs",
            "the schedule runs once in each of two phases",
            "give shares up to 1",
        )
    if config.learn_from == "last":
        _refuse_last(config)
    if config.regime == "frozen":
        _refuse_frozen(config)
    if config.mixup or config.cutmix:
        _refuse_mixing(config)


def _refuse_frozen(config: TrainConfig) -> None:
    if objectives.teaches(config.method) != "all":
        raise ConfigError(
            f"--regime frozen with method {config.method!r}",
            "it teaches the deepest exit only, which is frozen",
            "add '+deep', or take a method that teaches all exits (exitkit methods)",
        )
    # What a function of the user's own returns may have learned already; only he knows.
    if config.weights == names.FRESH and not names.handwritten(config.arch):
        raise ConfigError(
            "--regime frozen",
            "the frozen network would keep its random weights",
            "give --weights RUN_OR_FILE, or --regime mixed",
        )


def _refuse_last(config: TrainConfig) -> None:
    if config.regime != "frozen":
        raise ConfigError(
            f"learn_from last with --regime {config.regime}",
            "the last exit would learn from itself",
            "give --regime frozen, or learn_from labels",
        )
    if config.class_weights != "none":
        raise ConfigError(
            "learn_from last with class_weights", "nobody looks at classes", "leave one out"
        )
    _refuse_readers(
        config,
        "learn_from last",
        {
            "labels": "reads the labels itself",
            "partners": "compares images of one class, which labels alone tell",
        },
        "learn_from labels",
    )


def _refuse_mixing(config: TrainConfig) -> None:
    """Refuse methods to which a mixed image would be told wrongly.

    One that reads labels would take the first image's for both; a memory of every image would
    hold what was said of a mixture that never comes back.
    """
    _refuse_readers(
        config,
        "mixup or cutmix",
        {
            "labels": "reads the labels itself, which belong to one of the two images",
            "index": "remembers every image, and mixtures never come back",
            "partners": "compares images of one class, and a mixture is of two",
        },
        "set mixup=0 and cutmix=0",
    )


def _refuse_readers(config: TrainConfig, what: str, why: dict[Reads, str], do: str) -> None:
    """Refuse a method that reads a field of the batch which a setting makes useless."""
    for field, reason in why.items():
        parts = objectives.reads(config.method, field)
        if parts:
            raise ConfigError(
                f"{what} with method {config.method!r}",
                f"{', '.join(parts)} {reason}",
                f"leave it out, or {do}",
            )
