"""The first words of a run: its folder, its journal's first line, what is worth telling."""

import os
import shutil

import torch

import exitkit
from exitkit import atomic, journal, machine
from exitkit.config import TrainConfig, to_dict
from exitkit.data.split import DataSets
from exitkit.errors import ConfigError
from exitkit.runs import NetworkCard, Run
from exitkit.train import checkpoint, regime
from exitkit.train.settings import Resolved


def create(files: Run, config: TrainConfig, card: NetworkCard, notes: list[str]) -> None:
    """Create a run's folder in one step: settings, card and the journal's first line.

    Raises:
        ConfigError: the folder is there already, or cannot be made.
    """
    final = files.folder
    draft = Run(final.with_name(f".{final.name}.{os.getpid()}"))
    for left in final.parent.glob(f".{final.name}.*"):
        if left.suffix[1:].isdecimal():  # of a process that was killed here
            shutil.rmtree(left, ignore_errors=True)
    try:
        draft.folder.mkdir(parents=True)
        atomic.write_text(draft.config, checkpoint.written(config))
        draft.write_card(card)
        begin(draft, config, notes, "start")
        draft.folder.rename(final)
    except OSError as error:
        taken = final.exists()  # another process was faster
        do = "choose another --name" if taken else "check that it may be written and has room"
        found = f"{final if taken else final.parent}: {error.strerror}"
        raise ConfigError(f"run {final.name!r}", found, do) from error
    finally:
        shutil.rmtree(draft.folder, ignore_errors=True)


def begin(files: Run, config: TrainConfig, notes: list[str], event: str, epochs: int = 0) -> None:
    """Write to the journal what runs here, on what; `epochs` are finished already."""
    journal.Journal(files.journal).write(
        event,
        settings=to_dict(config),
        exitkit=exitkit.__version__,
        commit=machine.commit(),
        machine=machine.describe(),
        seed=config.seed,
        selection="test" if config.paper_protocol else "tune",
        epochs=epochs,
        notes=notes,
    )


def differences(files: Run) -> list[str]:
    """Return a warning where the run began on another machine or with other versions."""
    here = machine.describe()
    before = [row["machine"] for row in journal.read(files.journal, "start")]
    if not before or before[0] == here:
        return []
    changed = [name for name in here if here[name] != before[0].get(name)]
    return [
        f"this machine differs from the one where the run began ({', '.join(changed)}): the "
        "outcome may differ in the last bits"
    ]


def describe(config: Resolved, sets: DataSets, device: torch.device) -> list[str]:
    """Return the lines worth telling before training: data, device, phases, protocol."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    notes = [
        f"data {sets.name}: {len(sets.train)} training, {len(sets.tune)} tune and "
        f"{len(sets.test)} test images of {len(sets.classes)} classes; --data chooses another",
        f"device {device} ({where}), {config.threads} threads",
    ]
    if sets.note:
        notes.insert(1, sets.note)
    alone = regime.alone(config.regime, config.backbone_share, config.epochs)
    if alone:
        notes.append(
            f"mixed regime: the backbone learns alone up to epoch {alone} (its early exits know "
            f"nothing yet), then everything up to epoch {config.epochs}"
        )
    if config.regime == "frozen":
        source = "the labels" if config.learn_from == "labels" else "what the last exit says"
        notes.append(
            f"frozen regime: stages and last exit stay as they are, early exits learn from {source}"
        )
    if config.paper_protocol:
        notes.append(
            "paper protocol: the best epoch is picked on the TEST split, so its test accuracy "
            "is no honest estimate"
        )
    return notes
