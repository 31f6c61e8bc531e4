"""Where runs and bundles lie, and which is the latest.

runs/<name>/config.json      settings, as resolved
            network.json     what was built: arch, classes, image spec, exits and their costs
            network.pt       weights of the selected epoch (torch, weights only)
            checkpoint.pt    everything to resume from, after the last finished epoch
            journal.jsonl    every epoch, every measurement
            scores-tune.npz  scores-test.npz
runs/latest                  link to the newest run with a finished epoch
bundles/<name>/              see exitkit.bundle
bundles/latest               link to the newest bundle
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exitkit import journal
from exitkit.atomic import point, write_text
from exitkit.errors import BundleError, CheckpointError, ConfigError
from exitkit.images import ImageSpec

RUNS, BUNDLES, LATEST = Path("runs"), Path("bundles"), "latest"


@dataclass(frozen=True)
class Pruned:
    """Where a network with fewer channels than its arch and width say comes from.

    Attributes:
        run: the run whose network was pruned.
        network: digest of that network's weights.
        ratio: share of every layer's channels that went.
        shapes: of the tensors that are smaller now, by their names in the weights.
    """

    run: str
    network: str
    ratio: float
    shapes: dict[str, tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """Return the value that stands in network.json; shapes as 64x32x3x3."""
        shapes = {name: "x".join(map(str, shape)) for name, shape in self.shapes.items()}
        return {**vars(self), "shapes": shapes}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Pruned":
        """Read what `to_json` wrote."""
        shapes = {
            str(name): tuple(int(size) for size in shape.split("x"))
            for name, shape in value["shapes"].items()
        }
        return cls(str(value["run"]), str(value["network"]), float(value["ratio"]), shapes)


@dataclass(frozen=True)
class NetworkCard:
    """What was built; without torch, for `models`, `runs`, export and reports.

    Attributes:
        arch, heads, width: how to build it again.
        classes: labels in the order of the logits.
        image: what it wants to see.
        exits: numbers of the exits it has, shallow to deep.
        macs: multiply-adds of leaving at each of them, earlier heads included.
        parameters: parameters needed to leave at each of them, earlier heads included.
        plain_macs: multiply-adds of the same network without early exits.
        method: the objective.
        stem: what the network begins with (see exitkit.names).
        at: where a network of the user's own was cut; empty for the networks in here.
        pruned: where its channels went; None where it has all of them.
    """

    arch: str
    heads: str
    width: float
    classes: tuple[str, ...]
    image: ImageSpec
    exits: tuple[int, ...]
    macs: tuple[int, ...]
    parameters: tuple[int, ...]
    plain_macs: int
    method: str
    stem: str = "cifar"
    at: tuple[str, ...] = ()
    pruned: Pruned | None = None


@dataclass(frozen=True)
class Run:
    """The files of one run."""

    folder: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def config(self) -> Path:
        """Settings."""
        return self.folder / "config.json"

    @property
    def network(self) -> Path:
        """Weights of the selected epoch."""
        return self.folder / "network.pt"

    @property
    def checkpoint(self) -> Path:
        """Everything to resume from."""
        return self.folder / "checkpoint.pt"

    @property
    def journal(self) -> Path:
        """JSON lines."""
        return self.folder / "journal.jsonl"

    def scores(self, split: str) -> Path:
        """Table of scores of one split."""
        return self.folder / f"scores-{split}.npz"

    @property
    def finished(self) -> bool:
        """Whether at least one epoch is finished."""
        return self.network.exists() and self.checkpoint.exists()

    def write_card(self, card: NetworkCard) -> None:
        """Write network.json."""
        table = asdict(card)
        del table["pruned"]  # absent where nothing was, as in the cards of older runs
        if card.pruned is not None:
            table["pruned"] = card.pruned.to_json()
        write_text(self.folder / "network.json", json.dumps(table, indent=2) + "\n")

    def read_card(self) -> NetworkCard:
        """Read network.json."""
        path = self.folder / "network.json"
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            lists = {k: tuple(v) for k, v in table.items() if isinstance(v, list)}
            pruned = table.get("pruned") and Pruned.from_json(table["pruned"])
            image = ImageSpec.from_json(table["image"])
            return NetworkCard(**{**table, **lists, "image": image, "pruned": pruned})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                str(path), f"cannot be read ({error})", "train it again"
            ) from error


def create(name: str | None, method: str, arch: str, root: Path = RUNS) -> Run:
    """Choose the folder of a new run: `name`, or one made from method, network and a number.

    The options of the methods are left out of the name; config.json has them.
    """
    if name is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name) or name == LATEST:
            raise ConfigError(
                f"run name {name!r}", "is no plain name", "use letters, digits, . _ -"
            )
        run = Run(root / name)
        if run.folder.exists():
            raise ConfigError(
                f"run {name!r}",
                f"{run.folder} is there already",
                "choose another --name, or --resume it",
            )
        return run
    words = re.findall(r"[A-Za-z0-9._]+", re.sub(r"\(.*?\)", "", f"{method}-{arch}"))
    return numbered("-".join(words), root)


def numbered(stem: str, root: Path = RUNS) -> Run:
    """Choose the folder of a new run whose name is `stem` and the first free number."""
    number = 1
    while (root / f"{stem}-{number}").exists():
        number += 1
    return Run(root / f"{stem}-{number}")


def mark_latest(run: Run) -> None:
    """Point runs/latest to a run; call it only when an epoch of it is finished."""
    point(run.folder.parent / LATEST, run.name)


def find(name: str | None, root: Path = RUNS) -> Run:
    """Find a run by name or path, or the latest; it must have a network.

    The mixed regime keeps none as long as the backbone learns alone.

    Raises:
        CheckpointError: there is none.
        ConfigError: an empty name.
    """
    run = _locate(name, root)
    if not run.finished:
        do = f"go on with exitkit train --resume {run.name}, or name another run"
        found = "no network yet" if run.checkpoint.exists() else "no finished epoch"
        raise CheckpointError(
            f"run {name or 'latest'}",
            f"{found} in {run.folder}",
            do if run.config.exists() else "run exitkit train first",
        )
    return run


def find_unfinished(name: str | None, root: Path = RUNS) -> Run:
    """Find a run to resume: like `find`, for runs that may not have finished an epoch.

    Raises:
        CheckpointError: there is no such run, or none was named and no run has a finished epoch.
    """
    left = unfinished(root)
    if name is None and left and not (root / LATEST).is_dir():
        raise CheckpointError(
            "resuming the latest run", "no run has finished an epoch", how_to_resume(left)
        )
    run = _locate(name, root)
    if not run.config.exists():
        raise CheckpointError(
            f"run {name or 'latest'}", f"no run in {run.folder}", "run exitkit train"
        )
    return run


def unfinished(root: Path = RUNS) -> list[str]:
    """Name the runs whose last epoch is not finished."""
    return [
        path.parent.name
        for path in sorted(root.glob("[!.]*/config.json"))
        if not path.parent.is_symlink()
        and not any(journal.read(Run(path.parent).journal, "finish"))
    ]


def how_to_resume(left: list[str]) -> str:
    """Say how to go on with one of the unfinished runs."""
    return f"go on with exitkit train --resume NAME, where NAME is one of: {', '.join(left)}"


def _locate(name: str | None, root: Path) -> Run:
    _refuse_empty("run", name)
    folder = root / (name or LATEST)
    if name is not None and not folder.is_dir() and Path(name).is_dir():
        folder = Path(name)
    if not folder.is_dir():
        raise CheckpointError(
            f"run {name or 'latest'}",
            f"not in {root}/ (it has: {_listed(root)})",
            "run exitkit train first, or name one",
        )
    return Run(folder.resolve())


def _refuse_empty(kind: str, name: str | None) -> None:
    """Refuse a name that is there and empty: the latest would be a guess."""
    if name == "":
        raise ConfigError(
            f"{kind} ''",
            "the name is empty, like a shell variable that is not set",
            f"name a {kind}, or leave the name out for the latest",
        )


def _listed(root: Path) -> str:
    """Name the folders in `root`, or say that there are none."""
    found = root.iterdir() if root.is_dir() else ()
    names = (p.name for p in found if p.is_dir() and not p.is_symlink() and p.name[0] != ".")
    return ", ".join(sorted(names)) or "none"


def find_bundle(name: str | None, root: Path = BUNDLES) -> Path:
    """Find a bundle by name or path, or the latest.

    Raises:
        BundleError: there is none.
        ConfigError: an empty name.
    """
    _refuse_empty("bundle", name)
    folder = root / (name or LATEST)
    if name is not None and not folder.is_dir() and Path(name).is_dir():
        folder = Path(name)
    if not folder.is_dir():
        raise BundleError(
            f"bundle {name or 'latest'}",
            f"not in {root}/ (it has: {_listed(root)})",
            "run exitkit export first, or name one",
        )
    return folder.resolve()
