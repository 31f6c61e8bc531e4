"""Where a network begins: with the weights of an earlier run or of a file, as far as they fit.

The stages must fit whole. A head is taken where all of its weights fit and the classes are the
same; the others begin fresh, and the session says which.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from exitkit import names, runs
from exitkit.errors import CheckpointError, ConfigError
from exitkit.images import ImageSpec
from exitkit.models.exitnet import ExitNet
from exitkit.runs import RUNS, Run
from exitkit.train import checkpoint

FRESH = names.FRESH


def locate(asked: str, root: Path = RUNS) -> str:
    """Return the absolute path of the file that `asked`, a run or a file, means.

    Words that name no file ("fresh", and "default" of a network from elsewhere) stay.

    Raises:
        ConfigError: it is neither.
        CheckpointError: the run has no network yet.
    """
    if asked == FRESH or asked in names.PUBLISHED:
        return asked
    if Path(asked).expanduser().is_file():
        return str(Path(asked).expanduser().resolve())
    if not (root / asked).is_dir() and not Path(asked).is_dir():
        raise ConfigError(
            f"--weights {asked}", f"no run in {root}/ and no such file", "see exitkit runs"
        )
    return str(runs.find(asked, root).network.resolve())


def look(asked: str) -> ImageSpec | None:
    """Return how images looked to the run in which the weights lie; None where nobody says."""
    path = Path(asked)
    run = Run(path.parent)
    if asked == FRESH or asked in names.PUBLISHED or run.network != path:
        return None
    try:
        return run.read_card().image
    except CheckpointError:
        return None


def load_weights(
    network: ExitNet, path: Path, classes: tuple[str, ...], whole: bool = False
) -> str:
    """Load what fits into `network`, and return a line about what did.

    Args:
        network: the stages of the file must be its own.
        path: a network.pt; where it lies in a run, the run's classes decide about its heads.
        classes: of the data that are trained on, in their order.
        whole: whether the deepest head must fit too.

    Raises:
        CheckpointError: the file cannot be read.
        ConfigError: its weights are another network's.
    """
    found = checkpoint.load_network(path)
    own = network.state_dict()
    missing = _unfit(own, found, "stages.")
    if missing:
        raise _other_network(path, missing)
    same = _classes(path, classes)
    heads = [k for k in network.exits if same and not _unfit(own, found, f"heads.{k}.")]
    if whole and network.deepest not in heads:
        raise _other_network(path, _unfit(own, found, f"heads.{network.deepest}.") or "classes")
    taken = ("stages.", *(f"heads.{k}." for k in heads))
    network.load_state_dict({**own, **{k: v for k, v in found.items() if k.startswith(taken)}})
    fresh = [str(k) for k in network.exits if k not in heads]
    told = f"; exits {', '.join(fresh)} begin fresh" if fresh else ""
    return f"weights from {path}{told}"


def _unfit(own: Mapping[str, Tensor], found: Mapping[str, Tensor], part: str) -> str:
    """Name the first weight of a part that only one has, or in another shape; '' if all fit."""
    for name, tensor in own.items():
        if name.startswith(part):
            other = found.get(name)
            if other is None:
                return f"no {name}"
            if other.shape != tensor.shape:
                return f"{name} is {tuple(other.shape)}, not {tuple(tensor.shape)}"
    # A deeper network of the same kind has all of them, and more.
    more = (name for name in found if name.startswith(part) and name not in own)
    return next((f"{name} is of no layer here" for name in more), "")


def _classes(path: Path, classes: tuple[str, ...]) -> bool:
    """Whether the run in which the file lies has the same classes; a lone file is believed."""
    run = Run(path.parent)
    try:
        return run.network != path or run.read_card().classes == classes
    except CheckpointError:
        return True


def _other_network(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"--weights {path}",
        f"they are of another network or of other classes ({why})",
        "give the --arch, --width, --heads and --data that they were trained with",
    )
