"""What an export starts from: a run's selected network, its data and its tune scores."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from exitkit import scores
from exitkit.data.split import DataSets
from exitkit.errors import CheckpointError, DataError, ExportError
from exitkit.export import lineage
from exitkit.models import costs
from exitkit.models.exitnet import ExitNet
from exitkit.runs import NetworkCard, Run
from exitkit.scores import Scores
from exitkit.train import evaluate, origin

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """What a run holds, read once.

    Attributes:
        run, card: where it lies, and what was built.
        network: the selected network, on the processor in evaluation mode.
        digest: of its weights.
        earlier: digests of the networks that the run had before.
        costs: multiply-adds and parameters of its parts.
        sets: the data that it was trained on.
        scores: of the tune split, with exactly these weights.
    """

    run: Run
    card: NetworkCard
    network: ExitNet
    digest: str
    earlier: tuple[str, ...]
    costs: costs.Costs
    sets: DataSets
    scores: Scores


def read(run: Run, card: NetworkCard, progress: Progress) -> Source:
    """Read a run for export.

    Raises:
        CheckpointError: the weights are missing, damaged or of another network, or were replaced
            while they were read.
        DataError: the run held no tune images out, or its data have changed.
        ExportError: a weight is not finite.
    """
    network, digest = evaluate.trained(run)
    _refuse_lost_numbers(run, network)
    sets = origin.load(run)
    if len(sets.tune) == 0:
        raise DataError(
            f"export of run {run.name}",
            "no training images were held out, so there is nothing to fit thresholds on",
            "train with --set tune_share=0.1",
        )
    network.to(memory_format=torch.channels_last)  # as evaluation has it
    counted = costs.count(network, card.image.height)
    before = lineage.earlier(run, digest)
    table = _scores(run, digest, progress)
    return Source(run, card, network, digest, before, counted, sets, table)


def _refuse_lost_numbers(run: Run, network: ExitNet) -> None:
    lost = [
        name
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if lost:
        raise ExportError(
            f"export of run {run.name}",
            f"{len(lost)} of its tensors are not finite, the first is {lost[0]}",
            "train again, with a smaller --lr or --set clip=1",
        )


def _scores(run: Run, digest: str, progress: Progress) -> Scores:
    """Return the tune scores of exactly these weights; an interrupted run has none yet."""
    if run.scores("tune").exists():
        table = scores.load(run.scores("tune"), "tune")
        if table.network == digest:
            return table
    progress(f"scoring the tune split with the weights of {run.name}")
    table = evaluate.evaluate(run, "tune")  # which reads the weights again
    if table.network != digest:
        raise CheckpointError(
            f"export of run {run.name}",
            "its weights changed while they were read: it is being trained",
            "export again",
        )
    return table
