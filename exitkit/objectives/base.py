"""The verbs of a training objective.

A method says what the labels say (`supervise`), what else should be learned (`terms`), which
extra forward passes it needs (`passes`), what it must remember (`after_step`) and what it has seen
(`observe`). Every verb has a default that does nothing, so a method spells only what its paper
adds. One cross-entropy serves all: the trainer's step computes it from the labels as every part
has folded them.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs, ParamGroup, Pass

Teaches = Literal["all", "deepest"]
Reads = Literal["labels", "index", "partners"]
Which = Literal["all", "shallow", "middle", "shallower", "deepest", "none"]


@dataclass(frozen=True)
class Flow:
    """Where the gradient of one term must arrive, and where it must not.

    Attributes:
        exits: which exits of the network it reaches through their logits, feature or embedding,
            of the main pass or of an extra pass. "shallow" are all but the deepest; "middle" are
            those without the shallowest, "shallower" those without the deepest of them.
        modules: names of the objective's own submodules that it reaches; no other is reached.
        hidden: which outputs of the network's stages it reaches past the exits.
    """

    exits: Which
    modules: tuple[str, ...] = ()
    hidden: Literal["all", "shallow", "deepest", "one", "none"] = "none"


class Objective(nn.Module):
    """One paper's training objective; parameters and buffers it owns vanish after training.

    Class attributes:
        teaches: "all" exits learn from the labels or from a term, or only the "deepest" does;
            the network is built with the exits that its objective teaches.
        views: how many augmented views of each image a batch must carry.
        reads: what it reads of a batch beside the images: "labels", which soft targets would not
            reach, "index", for a memory of its own of every image, or "partners", which the
            loader adds for it. Settings that mix images or need no labels are refused with it; a
            contract checks it.
        sets_weights: whether `supervise` decides the weights of the exits; in a sum one part may.
        proposes_weights: whether it only proposes them: in a sum, who decides is free to replace
            them.
        flow: for each term, where its gradient must arrive; a contract checks it by autograd.
        plain: the values of its options at which the network learns from the labels alone; a
            contract checks that too.

    Options are the keyword-only arguments of the constructor, each with a default.
    """

    teaches: Teaches = "deepest"
    views: int = 1
    reads: frozenset[Reads] = frozenset()
    sets_weights: bool = False
    proposes_weights: bool = False
    flow: ClassVar[dict[str, Flow]] = {}
    plain: ClassVar[dict[str, float]] = {}

    def __init__(self, blueprint: Blueprint) -> None:
        super().__init__()

    def flows(self) -> dict[str, Flow]:
        """Return the gradient-flow table; a sum unites those of its parts."""
        return dict(self.flow)

    def passes(self, batch: Batch, clock: Clock) -> dict[str, Pass]:
        """Name the extra forward passes of this step; each is a forward of its own.

        A wider batch would change what batch normalisation sees.
        """
        return {}

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Say what the labels say: return them with other targets or other weights."""
        return labels

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what else should be learned, as named scalars that are summed.

        `labels` are the folded ones, so that soft targets of one part reach every other's
        cross-entropies. A term that does not apply to this step is left out.
        """
        return {}

    def after_step(self, out: Outputs, batch: Batch, clock: Clock) -> None:
        """Remember what the next steps need, in buffers, after the weights have moved."""

    def observe(self) -> dict[str, float]:
        """Return what the epoch's steps have shown of the method, by name, and begin anew.

        The trainer asks after every epoch; what was added up meanwhile lies in buffers.
        """
        return {}

    def param_groups(self) -> list[ParamGroup]:
        """Name the objective's own parameters with the optimiser that steps them."""
        return []
