"""A run from its settings to its scores, and from its checkpoint onwards.

What lies on the disk after every epoch, and the order in which it is written, so that a process
killed at any moment leaves a run that ends the same:

1. the journal's line. The epoch may be repeated, then its line is too: `journal.epochs` takes
   the last one.
2. checkpoint.pt, the truth: it holds the selected weights as well.
3. network.pt, when the epoch is the best so far. Resuming writes it again from the checkpoint.
4. runs/latest.
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from exitkit import data, journal, runs, scores
from exitkit.config import TrainConfig, parse
from exitkit.data.split import DataSets, Split
from exitkit.errors import CheckpointError, ExitkitError
from exitkit.models.exitnet import ExitNet
from exitkit.objectives import build as objectives
from exitkit.objectives import preflight
from exitkit.objectives.base import Objective
from exitkit.policy import metrics
from exitkit.records import Clock
from exitkit.runs import RUNS, NetworkCard, Run
from exitkit.scores import Scores
from exitkit.train import (
    assemble,
    checkpoint,
    combinations,
    evaluate,
    opening,
    origin,
    pruned,
    published,
    weights,
)
from exitkit.train.assemble import Parts
from exitkit.train.precision import choose_device, choose_precision
from exitkit.train.settings import Resolved, resolve, take
from exitkit.train.trainer import EpochRecord, Progress, Trainer

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while training; the message says what is kept and how to go on."""


@dataclass
class Session:
    """A run that is being trained.

    Attributes:
        files: where it lies.
        config: settings, all resolved.
        data: the data sets.
        card: what was built.
        notes: lines worth telling before training: data, device, precision, warnings.
        trainer: the loop.
        parts: what the loop runs on.
        kept: epochs that the checkpoint on the disk holds.
    """

    files: Run
    config: Resolved
    data: DataSets
    card: NetworkCard
    notes: list[str]
    trainer: Trainer
    parts: Parts
    kept: int = 0

    @property
    def network(self) -> ExitNet:
        """What is trained."""
        return self.trainer.network

    @property
    def objective(self) -> Objective:
        """How it is trained."""
        return self.parts.step.objective

    @property
    def progress(self) -> Progress:
        """Where training stands inside the running epoch; another thread may read it."""
        return self.trainer.progress

    @property
    def split(self) -> Split:
        """Where the best epoch is picked: tune, or test with the papers' protocol."""
        return self.data.test if self.config.paper_protocol else self.data.tune

    def run(self) -> Iterator[EpochRecord]:
        """Yield every epoch once it lies on the disk; write the scores after the last one.

        Raises:
            Interrupted: Ctrl-C.
            TrainingError: a loss or a weight is no finite number; the last epoch is kept.
        """
        try:
            for record in self.trainer.run(self.parts.loader, self.split):
                self._keep(record)
                yield record
        except KeyboardInterrupt as stop:
            self._journal.write("interrupted", epochs=self.kept)
            raise Interrupted(self.how_to_resume()) from stop
        except ExitkitError as error:
            self._journal.write("failed", epochs=self.kept, error=str(error))
            raise
        self.finish()

    def finish(self) -> Scores | None:
        """Write and return the selected network's scores on tune; None where tune is empty."""
        network, digest = evaluate.trained(self.files)
        table = None
        if len(self.data.tune):
            device = self.trainer.plan.device
            network.to(device).to(memory_format=torch.channels_last)
            table = evaluate.score(network, self.data.tune, self.card, digest, device)
            scores.save(table, self.files.scores("tune"))
        best = self.trainer.selected
        self._journal.write(
            "finish",
            network=digest,
            selected=None if best is None else best.epoch,
            exits=[] if table is None else metrics.per_exit(table),
        )
        return table

    def how_to_resume(self) -> str:
        """Say what is kept and how to go on."""
        return (
            f"run {self.files.name}: {self.kept} of {self.config.epochs} epochs are kept in "
            f"{self.files.folder}; go on with: exitkit train --resume {self.files.name}"
        )

    @property
    def _journal(self) -> journal.Journal:
        return journal.Journal(self.files.journal)

    def _keep(self, record: EpochRecord) -> None:
        """Write an epoch to the disk; see the module for the order."""
        self._journal.write("epoch", **asdict(record))
        state = {**self.trainer.state_dict(), "data": origin.fingerprint(self.data)}
        checkpoint.save(self.files.checkpoint, state)
        self.kept = record.epoch + 1
        if record.selected:
            self.publish()
        runs.mark_latest(self.files)

    def publish(self) -> None:
        """Write network.pt from the selected weights."""
        if self.trainer.selected is not None:
            checkpoint.save_network(self.files.network, self.trainer.selected.weights)


def prepare(
    config: TrainConfig,
    *,
    name: str | None = None,
    download: bool = False,
    root: Path = RUNS,
    cache: Path | None = None,
) -> Session:
    """Make a new run: build everything, check it on two batches, then create its folder.

    Raises:
        ConfigError: the settings cannot be met; the run's name is taken.
        DataError: the data cannot be read.
        TrainingError: preflight found a term without gradient or an exit that nothing teaches.
    """
    objectives.parse(config.method)
    combinations.refuse(config)
    config = replace(config, weights=weights.locate(config.weights, root))
    runs.create(name, config.method, config.arch, root)  # a name that is taken is refused early
    device = choose_device(config.device)
    sets = published.seen(data.load(config, download=download, cache=cache), config)
    resolved = resolve(config, sets, device)
    torch.set_num_threads(resolved.threads)
    parts = assemble.assemble(resolved, sets, device)
    batches = parts.first_batches()
    clock = Clock(0, resolved.epochs, 0, parts.loader.steps)
    preflight.check(parts.step, batches, clock)
    precision, why = choose_precision(config.precision, parts.step, batches, device)
    resolved = resolved.with_precision(precision)
    session = Session(
        # Numbered only now: another run may have begun while this one was built and tried.
        runs.create(name, config.method, config.arch, root),
        resolved,
        sets,
        parts.card,
        [*opening.describe(resolved, sets, device), why, *parts.warnings],
        assemble.trainer(resolved, parts, sets, device),
        parts,
    )
    opening.create(session.files, resolved, parts.card, session.notes)
    return session


def resume(
    name: str | None = None,
    *,
    download: bool = False,
    root: Path = RUNS,
    cache: Path | None = None,
) -> Session:
    """Take up a run (the latest where none is named) after its last finished epoch.

    On the same machine the outcome is the same, bit for bit, as without the interruption.

    Raises:
        CheckpointError: there is no such run, it is damaged, or it is finished.
        DataError: its data are not there, or others than in training.
    """
    files = runs.find_unfinished(name, root)
    if any(journal.read(files.journal, "finish")):
        left = runs.unfinished(root) if name is None else []
        raise CheckpointError(
            f"resuming run {files.name}",
            "it has finished all of its epochs",
            runs.how_to_resume(left) if left else "train a new run, or go on with exitkit export",
        )
    config = take(checkpoint.read_config(files))
    device = choose_device(config.device)
    sets = data.load(config, download=download, cache=cache)
    card = files.read_card()
    sets = replace(sets, image=card.image)  # as it was seen until now
    torch.set_num_threads(config.threads)
    parts = assemble.assemble(config, sets, device, resumed=files.checkpoint.exists())
    if card.pruned is not None:
        pruned.require_start(files)
        parts = pruned.fit(parts, config, sets, card, device)
    notes = [
        f"resuming run {files.name}",
        *opening.describe(config, sets, device),
        *opening.differences(files),
    ]
    trainer = assemble.trainer(config, parts, sets, device)
    session = Session(files, config, sets, parts.card, notes, trainer, parts)
    _restore(session)
    return session


def train(
    *,
    name: str | None = None,
    download: bool = False,
    root: Path = RUNS,
    **settings: Any,  # Any: the fields of TrainConfig
) -> Run:
    """Train a run to its end and return its files; `exitkit.train(method="mate", epochs=5)`.

    Args:
        name: of the run; made from method and network where not given.
        download: whether the data set may be fetched.
        root: folder of the runs.
        settings: see TrainConfig.
    """
    session = prepare(parse(settings, "exitkit.train"), name=name, download=download, root=root)
    for note in session.notes:
        log.info("%s", note)
    for record in session.run():
        shares = ", ".join(f"{share:.3f}" for share in record.accuracy)
        log.info("epoch %d of %d: accuracy %s", record.epoch + 1, record.epochs, shares)
    return session.files


def _restore(session: Session) -> None:
    """Load the checkpoint, where there is one, and make the other files agree with it."""
    files, trainer = session.files, session.trainer
    checkpoint.sweep(files)
    if files.checkpoint.exists():
        state = checkpoint.load(files.checkpoint)
        origin.refuse_others(files, state.get("data"), session.data)
        try:
            trainer.load_state_dict(state)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise checkpoint.mismatch(files.checkpoint, error) from error
        session.kept = trainer.epoch
        session.publish()
        runs.mark_latest(files)
    session.notes.append(f"{session.kept} of {session.config.epochs} epochs are finished")
    opening.begin(files, session.config, session.notes, "resume", session.kept)
