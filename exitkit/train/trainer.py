"""The loop: it steps, measures, remembers the best epoch, and knows no method by name."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from exitkit.data.loader import Loader
from exitkit.data.split import Split
from exitkit.images import ImageSpec
from exitkit.models.exitnet import ExitNet
from exitkit.objectives.step import Step
from exitkit.records import Batch, Clock
from exitkit.train import checkpoint
from exitkit.train.average import Average
from exitkit.train.evaluate import accuracy
from exitkit.train.optim import Optimisers
from exitkit.train.precision import autocast
from exitkit.train.regime import Phases
from exitkit.train.tally import Tally, not_finite


@dataclass(frozen=True)
class EpochRecord:
    """What one finished epoch gave.

    Attributes:
        epoch: 0-based number, as in Clock.
        epochs: how many the run has.
        loss: mean over the epoch's steps.
        terms: mean of each term over the steps in which it applied.
        observations: what the method has seen in the epoch, by name.
        accuracy: share of the selection split that each exit names rightly, shallow to deep.
        images_per_s: training images per second, evaluation not counted.
        seconds: the epoch's, evaluation counted.
        seconds_left: for the epochs to come, at the mean pace since training started here.
        lr: the network's learning rate at the last step.
        selected: whether this is the best epoch so far; its weights are the run's network.
    """

    epoch: int
    epochs: int
    loss: float
    terms: dict[str, float]
    observations: dict[str, float]
    accuracy: tuple[float, ...]
    images_per_s: float
    seconds: float
    seconds_left: float
    lr: float
    selected: bool


@dataclass
class Progress:
    """Where training stands now: plain numbers that another thread may read at any time.

    Attributes:
        epoch: 0-based number of the running epoch.
        step: finished steps of that epoch.
        steps: how many an epoch has.
        images: training images seen in that epoch.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    images: int = 0

    def begin(self, epoch: int, steps: int) -> None:
        """Stand before the first step of an epoch."""
        self.epoch, self.step, self.steps, self.images = epoch, 0, steps, 0


@dataclass(frozen=True)
class Plan:
    """How a trainer trains.

    Attributes:
        epochs: how many the run has.
        device: where the step and the batches live.
        precision: "float32" or "bf16".
        spec: what the network wants to see, for the evaluation after every epoch.
        alone: how many epochs at the beginning teach the plain network alone (see regime.py).
        ema: decay of the averaged weights; 0 keeps the weights themselves.
    """

    epochs: int
    device: torch.device
    precision: str
    spec: ImageSpec
    alone: int = 0
    ema: float = 0.0


@dataclass(frozen=True)
class Selected:
    """The best epoch so far: its 0-based number, mean accuracy over exits, and weights."""

    epoch: int
    accuracy: float
    weights: dict[str, Tensor]


class Trainer:
    """Train a step to the end of the plan, from the first epoch or from a loaded state.

    `state_dict` holds everything that decides what comes next; take it between two epochs only.

    Args:
        step: the network and its objective, on the plan's device.
        optimisers: of both.
        plan: how to train.
    """

    def __init__(self, step: Step, optimisers: Optimisers, plan: Plan) -> None:
        self.step, self.optimisers, self.plan = step, optimisers, plan
        self.phases = Phases(step, plan.epochs, plan.alone)
        self.average = Average(self.network, plan.ema) if plan.ema else None
        self.epoch = 0
        self.selected: Selected | None = None
        self.progress = Progress()

    @property
    def network(self) -> ExitNet:
        """The network that is trained, without its objective."""
        network = self.step.network
        assert isinstance(network, ExitNet)
        return network

    @property
    def judged(self) -> ExitNet:
        """The network that is evaluated and kept: the average of the weights where there is one."""
        return self.network if self.average is None else self.average.network

    def run(self, train: Loader, tune: Split) -> Iterator[EpochRecord]:
        """Yield a record after every epoch that is still to be trained.

        Args:
            train: batches of an epoch, whose order depends on the seed and the epoch alone.
            tune: the split on which the best epoch is picked (highest mean accuracy over the
                exits; of equals the latest).

        Raises:
            TrainingError: a loss or a weight is not a finite number.
        """
        began, first = time.perf_counter(), self.epoch
        while self.epoch < self.plan.epochs:
            start = time.perf_counter()
            loss, terms, lr = self._train(train)
            trained = time.perf_counter()
            shares = accuracy(
                self.judged, tune, self.plan.spec, self.plan.device, self.plan.precision
            )
            seen = self.phases.step(self.epoch).objective.observe()
            self.epoch += 1
            selected = self._select(shares)
            now = time.perf_counter()
            pace = (now - began) / (self.epoch - first)
            yield EpochRecord(
                epoch=self.epoch - 1,
                epochs=self.plan.epochs,
                loss=loss,
                terms=terms,
                observations=seen,
                accuracy=shares,
                images_per_s=self.progress.images / (trained - start),
                seconds=now - start,
                seconds_left=pace * (self.plan.epochs - self.epoch),
                lr=lr,
                selected=selected,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return network, objective, optimisers, time, generators and the best epoch."""
        best = self.selected
        return {
            "epoch": self.epoch,
            "epochs": self.plan.epochs,
            "network": self.network.state_dict(),
            "objective": self.step.objective.state_dict(),
            "optimisers": self.optimisers.state_dict(),
            "generators": checkpoint.generators(),
            "selected": None if best is None else vars(best),
            "average": None if self.average is None else self.average.network.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave, the process's random generators included."""
        if state["epochs"] != self.plan.epochs:
            raise ValueError(f"a run of {state['epochs']} epochs, not {self.plan.epochs}")
        self.network.load_state_dict(state["network"])
        self.step.objective.load_state_dict(state["objective"])
        self.optimisers.load_state_dict(state["optimisers"])
        if self.average is not None:
            self.average.network.load_state_dict(state["average"])
        best = state["selected"]
        self.epoch = int(state["epoch"])
        self.selected = None if best is None else Selected(**best)
        checkpoint.restore_generators(state["generators"])

    def _train(self, train: Loader) -> tuple[float, dict[str, float], float]:
        """Train one epoch; the host waits for the device only after its last step.

        Returns:
            the mean loss, the mean terms and the last learning rate.
        """
        device, steps = self.plan.device, train.steps
        tally, lr = Tally(device, self.epoch + 1), math.nan
        self.progress.begin(self.epoch, steps)
        self.step.train()
        with _repeatable(device):
            for number, batch in enumerate(train.epoch(self.epoch)):
                clock = self.phases.clock(self.epoch, number, steps)
                lr = self.optimisers.set_time(clock)
                tally.add(*self.advance(batch, clock))
                if self.average is not None:
                    self.average.update(self.network, clock)
                self.progress.images += len(batch.labels)
                self.progress.step = number + 1
            loss, terms = tally.finish()
        self._refuse_lost_weights()
        return loss, terms, lr

    def advance(self, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        """Move the weights once; return the loss and its terms, still on the device."""
        self.optimisers.zero_grad()
        step = self.phases.step(self.epoch)
        with autocast(self.plan.device, self.plan.precision):
            loss, terms, out = step(batch, clock)
        loss.backward()
        self.optimisers.step()
        with torch.no_grad():
            step.objective.after_step(out, batch, clock)
        return loss, terms

    def _refuse_lost_weights(self) -> None:
        """Refuse weights that the epoch's last steps made infinite: they must not be saved."""
        finite = [torch.isfinite(weight).all() for weight in self.step.parameters()]
        if not bool(torch.stack(finite).all()):
            raise not_finite(f"a weight after epoch {self.epoch + 1}", self.epoch + 1)

    def _select(self, shares: tuple[float, ...]) -> bool:
        if self.epoch <= self.plan.alone:
            return False  # the early exits know nothing yet: there is no network to keep
        mean = sum(shares) / len(shares)
        if self.selected is not None and mean < self.selected.accuracy:
            return False
        weights = checkpoint.plain(self.judged.state_dict())
        self.selected = Selected(self.epoch - 1, mean, weights)
        return True


def _repeatable(device: torch.device) -> AbstractContextManager[None]:
    """Make convolutions give the same bits every time, on the GPU too."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
