"""What travels between data, network, objective and trainer: frozen records without behaviour.

Letters in every annotation: K exits, B batch, C classes, N samples, H W pixels, D embedding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """One training batch.

    Attributes:
        views: augmented copies of the same images, each [B, 3, H, W]; a method that wants a
            second view asks for two, every other sees one.
        labels: [B] class numbers.
        index: [B] row of each image in the training set, for memories per sample; always on the
            processor, where a memory too large for a GPU is.
        targets: [B, C] what the labels say where an image was mixed of two; None elsewhere.
        partners: for each image another one of its class, [B, 3, H, W]; None unless asked for.
    """

    views: tuple[Float[Tensor, "B 3 H W"], ...]
    labels: Int[Tensor, " B"]
    index: Int[Tensor, " B"]
    targets: Float[Tensor, "B C"] | None = None
    partners: Float[Tensor, "B 3 H W"] | None = None

    @property
    def images(self) -> Tensor:
        """The first view [B, 3, H, W]: what the network is trained on."""
        return self.views[0]


@dataclass(frozen=True)
class Exit:
    """The answer of one exit.

    Attributes:
        number: 1..K, shallow to deep, the same everywhere.
        logits: [B, C].
        feature: the head's map before pooling [B, D, h, w]; tokens [B, N, D] of a transformer.
        embedding: what the classifier sees [B, D].
    """

    number: int
    logits: Float[Tensor, "B C"]
    feature: Tensor
    embedding: Float[Tensor, "B D"]


@dataclass(frozen=True)
class Exits:
    """The exits that ran, shallow to deep; `exits[-1]` is the deepest.

    Attributes:
        answers: one Exit per head that the network has.
        hidden: the output of every stage 1..K, whether or not a head reads it: what the next
            stage, a branch or a feature method takes.
    """

    answers: tuple[Exit, ...]
    hidden: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, position: int) -> Exit:
        return self.answers[position]

    def __iter__(self) -> Iterator[Exit]:
        return iter(self.answers)


@dataclass(frozen=True)
class Outputs:
    """What the forward passes of one step gave.

    Attributes:
        main: the network on `batch.images`.
        passes: the extra passes that the objective asked for, by name.
    """

    main: Exits
    passes: dict[str, Exits]


@dataclass(frozen=True)
class Pass:
    """An extra forward pass of the network.

    Attributes:
        images: [B', 3, H, W].
        gradient: whether gradients flow through it.
    """

    images: Float[Tensor, "B 3 H W"]
    gradient: bool


@dataclass(frozen=True)
class Labels:
    """What each exit is told.

    Attributes:
        targets: class probabilities per exit [K, B, C], constant (no gradient).
        weights: weight of each exit's cross-entropy, [K] or per sample [K, B].
    """

    targets: Float[Tensor, "K B C"]
    weights: Tensor

    def with_targets(self, targets: Tensor) -> "Labels":
        """Return the same weights with other targets."""
        return replace(self, targets=targets)

    def with_weights(self, weights: Tensor) -> "Labels":
        """Return the same targets with other weights."""
        return replace(self, weights=weights)


@dataclass(frozen=True)
class Clock:
    """Where training stands: the only source of time for schedules.

    Attributes:
        epoch: 0-based number of the running epoch.
        epochs: how many the run has.
        step: 0-based number of the step inside the epoch.
        steps: how many an epoch has.
    """

    epoch: int
    epochs: int
    step: int
    steps: int

    @property
    def progress(self) -> float:
        """The share of the run that is done, 0 at its first step, below 1 at its last."""
        return (self.epoch + self.step / self.steps) / self.epochs


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that one optimiser steps with its own options.

    Attributes:
        name: unique within the objective.
        params: the parameters.
        optimiser: "sgd" or "adam".
        options: whatever differs from the run's own options (lr, weight_decay, ...).
    """

    name: str
    params: tuple[nn.Parameter, ...]
    optimiser: str
    options: dict[str, Any]  # Any: an optimiser's keyword options


@dataclass(frozen=True)
class Blueprint:
    """What an objective may know of the network and the data before training.

    Attributes:
        classes: C.
        samples: images in the training set, for memories per sample.
        exits: the numbers of the exits that the network has, shallow to deep.
        features: shape (D, h, w) of each of those exits' `feature`; (N, D) where it is tokens.
        embeddings: width D of each of those exits' `embedding`.
        hidden: shape of every stage's output, stages 1..K: (D, h, w) or (N, D).
        build: make another network of the same kind with fresh weights; `from_stage=k` makes
            only stages k..K (a branch: it takes the output of stage k-1), `exits` its heads.
    """

    classes: int
    samples: int
    exits: tuple[int, ...]
    features: tuple[tuple[int, ...], ...]
    embeddings: tuple[int, ...]
    hidden: tuple[tuple[int, ...], ...]
    build: Callable[[int, Sequence[int]], nn.Module]
