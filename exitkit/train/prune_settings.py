"""With which settings a pruned network goes on learning."""

from collections.abc import Mapping
from typing import Any

from exitkit import config, journal
from exitkit.config import parse
from exitkit.errors import ConfigError
from exitkit.runs import Run
from exitkit.train import checkpoint, combinations, settings
from exitkit.train.settings import Resolved

# Learning rate and epochs of the run whose network had all of its channels, divided by these.
SLOWER, SHORTER = 10, 4
# What the new run shares with the old one.
SHARED = (
    "method", "arch", "at", "data", "width", "heads", "stem", "image_size", "seed", "tune_share",
    "weights", "paper_protocol",
)  # fmt: skip
# What has a meaning without training: where and how the accuracy is asked.
MACHINE = ("device", "threads", "workers", "cache_mb")


def first(run: Run) -> dict[str, Any]:  # Any: numbers
    """Return `epochs` and `lr` of the run whose network had all of its channels.

    A run whose network was pruned has them in its journal; empty where an older exitkit did that.

    Raises:
        CheckpointError: the run's card or settings cannot be read.
    """
    if run.read_card().pruned is None:
        own = settings.take(checkpoint.read_config(run))
        return {"epochs": own.epochs, "lr": own.lr}
    told = [row.get("first") for row in journal.read(run.journal, "prune")]
    return told[-1] or {} if told else {}


def choose(
    run: Run,
    epochs: int | None,
    given: Mapping[str, Any],  # Any: values of settings
) -> Resolved:
    """Return the new run's settings; with no epochs those with which the weights were trained.

    Args:
        run: whose network is pruned.
        epochs: of training afterwards, perhaps 0; a quarter of the `first` run's where None.
        given: settings that are not to be the run's own; `epochs` may be among them instead. The
            learning rate is a tenth of the `first` run's where not given.

    Raises:
        ConfigError: a setting that the new run shares with the old one, that is given twice, that
            has no meaning without training, or that does not fit; the first run is not known.
        CheckpointError: the run's settings cannot be read.
    """
    own = settings.take(checkpoint.read_config(run))
    _refuse(run, epochs, given)
    table = config.to_dict(own) | {"weights": str(run.network.resolve())}
    typed = {**given, **({"epochs": epochs} if epochs else {})}
    if epochs != 0:
        table |= _gentler(run, typed)
    asked = settings.take(parse({**table, **typed}, "the pruning"))
    if epochs != 0 and asked.regime == "frozen":
        raise ConfigError(
            f"training after pruning run {run.name}",
            "its stages are frozen, and what is left of them must learn again",
            "add --set regime=joint (and --set learn_from=labels), or give --epochs 0",
        )
    combinations.refuse(asked)
    return asked


def _gentler(run: Run, typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return epochs and learning rate, as far as they were not typed."""
    left = [name for name in ("epochs", "lr") if name not in typed]
    if not left:
        return {}
    known = first(run)
    if not known:
        raise ConfigError(
            f"pruning run {run.name} once more",
            "an older exitkit pruned it and did not keep the first run's epochs and learning rate",
            f"give --{' and --'.join(left)}",
        )
    epochs, rate = max(1, round(known["epochs"] / SHORTER)), known["lr"] / SLOWER
    return {name: value for name, value in (("epochs", epochs), ("lr", rate)) if name in left}


def _refuse(run: Run, epochs: int | None, given: Mapping[str, Any]) -> None:
    shared = [name for name in given if name in SHARED]
    if shared:
        raise ConfigError(
            f"pruning run {run.name} with {', '.join(shared)}",
            "a pruned run has the data, method and network of the run that it comes from",
            "leave it out, or train a new run",
        )
    if epochs is None:
        return
    if epochs < 0:
        raise ConfigError(f"--epochs {epochs}", "is below zero", "give 0 or more")
    if "epochs" in given:
        raise ConfigError(f"--epochs {epochs}", "epochs is given twice", "say it once")
    learning = [name for name in given if name not in MACHINE]
    if epochs == 0 and learning:
        raise ConfigError(
            f"--epochs 0 with {', '.join(learning)}",
            "nothing is trained, so it would say what is not so",
            "leave it out, or give more epochs",
        )
