"""What a network's exits say about a split: accuracy while training, scores afterwards.

The test split is opened here and in the report, nowhere else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from exitkit import journal, scores
from exitkit.data.split import Split
from exitkit.errors import DataError, unknown
from exitkit.images import ImageSpec
from exitkit.models import build
from exitkit.models.exitnet import ExitNet
from exitkit.policy import metrics
from exitkit.runs import NetworkCard, Run
from exitkit.scores import Scores
from exitkit.train import checkpoint, origin
from exitkit.train.precision import autocast, choose_device

BATCH = 256
SPLITS = ("tune", "test")


@dataclass(frozen=True)
class Answers:
    """What the exits say about one batch of a split, in the split's order."""

    logits: Float[Tensor, "K B C"]
    labels: Int[Tensor, " B"]
    index: Int[Tensor, " B"]


def answers(
    network: ExitNet, split: Split, spec: ImageSpec, device: torch.device, precision: str
) -> Iterator[Answers]:
    """Yield the exits' answers batch by batch, in evaluation mode; training mode comes back."""
    training = network.training
    network.eval()
    try:
        for images, labels, index in split.batches(BATCH, device, spec):
            with torch.no_grad(), autocast(device, precision):
                exits = network(images)
            yield Answers(torch.stack([one.logits.float() for one in exits]), labels, index)
    finally:
        network.train(training)


def accuracy(
    network: ExitNet, split: Split, spec: ImageSpec, device: torch.device, precision: str
) -> tuple[float, ...]:
    """Return the share of a split's images that each exit names rightly; one read at the end."""
    correct = torch.zeros(len(network.exits), dtype=torch.int64, device=device)
    for batch in answers(network, split, spec, device, precision):
        correct += (batch.logits.argmax(dim=2) == batch.labels.to(device)).sum(dim=1)
    return tuple(count / len(split) for count in correct.tolist())


def score(
    network: ExitNet,
    split: Split,
    card: NetworkCard,
    digest: str,
    device: torch.device,
    precision: str = "float32",
) -> Scores:
    """Return the table of scores of a split; `digest` names the weights it belongs to."""
    parts = [
        (batch.logits.cpu(), batch.labels.cpu(), batch.index.cpu())
        for batch in answers(network, split, card.image, device, precision)
    ]
    return Scores(
        split=split.name,
        network=digest,
        exits=card.exits,
        macs=np.asarray(card.macs, dtype=np.float64),
        logits=torch.cat([logits for logits, _, _ in parts], dim=1).numpy(),
        labels=torch.cat([labels for _, labels, _ in parts]).numpy(),
        index=torch.cat([index for _, _, index in parts]).numpy(),
    )


def trained(run: Run) -> tuple[ExitNet, str]:
    """Return a run's selected network, on the processor in evaluation mode, and its digest.

    Raises:
        CheckpointError: the weights are missing, damaged or of another network.
    """
    network, weights = build.rebuild(run.read_card()), checkpoint.load_network(run.network)
    try:
        network.load_state_dict(weights)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise checkpoint.mismatch(run.network, error) from error
    return network.eval(), checkpoint.network_digest(weights)


def evaluate(
    run: Run, split: str = "test", device: str = "auto", cache: Path | None = None
) -> Scores:
    """Score a split with a run's selected network, in float32, and write the run's table.

    Raises:
        ConfigError: a split that is none of tune and test, a device that is not there.
        DataError: the split has no images, or the data are others than in training.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    place = choose_device(device)
    sets = origin.load(run, cache)
    network, digest = trained(run)
    images: Split = getattr(sets, split)
    if len(images) == 0:
        raise DataError(f"{split} split of {run.name}", "has no images", "evaluate another split")
    network.to(place).to(memory_format=torch.channels_last)
    table = score(network, images, run.read_card(), digest, place)
    scores.save(table, run.scores(split))
    journal.Journal(run.journal).write(
        "evaluate", split=split, network=digest, images=len(images), exits=metrics.per_exit(table)
    )
    return table
