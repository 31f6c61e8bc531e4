"""Which part of the network learns, and when: jointly, the exits only, or the backbone first.

joint   everything learns from the first step.
frozen  the plain network (stages and deepest head) stays as it is, to the bit, the statistics of
        its batch normalisation included; the early heads and what belongs to the objective learn:
        from labels, or from what the deepest exit says of the very image (`learn_from=last`).
mixed   the plain network learns alone from the labels for a share of the epochs, then everything
        learns jointly (Kubaty et al., ICML 2025: the last exit stays as good as without others).

Each phase of the mixed regime has a clock of its own: the schedule of the learning rate and every
schedule of the method run once per phase. Momentum is carried from one phase to the next.
"""

from torch import Tensor, nn

from exitkit.models.exitnet import ExitNet
from exitkit.objectives.base import Objective
from exitkit.objectives.step import Step
from exitkit.records import Clock, Exits


class LabelsAlone(Objective):
    """The labels at the deepest exit, and nothing else."""

    def __init__(self) -> None:
        nn.Module.__init__(self)  # it looks at no blueprint


class Plain(nn.Module):
    """A network without its early exits: their heads are not run."""

    def __init__(self, network: ExitNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Exits:
        """Answer at the deepest exit."""
        exits: Exits = self.network(images, (self.network.deepest,))
        return exits


class Phases:
    """What is trained in an epoch, and what time it is for it.

    Args:
        step: network and objective.
        epochs: of the whole run.
        alone: how many of them, at the beginning, teach the plain network alone.
    """

    def __init__(self, step: Step, epochs: int, alone: int) -> None:
        self._joint, self._epochs, self._alone = step, epochs, alone
        assert isinstance(step.network, ExitNet)
        self._plain = Step(Plain(step.network), LabelsAlone(), step.source, step.class_weights)

    def step(self, epoch: int) -> Step:
        """Return the step of a 0-based epoch."""
        return self._plain if epoch < self._alone else self._joint

    def clock(self, epoch: int, step: int, steps: int) -> Clock:
        """Return the time inside the phase of a 0-based epoch of the run."""
        if epoch < self._alone:
            return Clock(epoch, self._alone, step, steps)
        return Clock(epoch - self._alone, self._epochs - self._alone, step, steps)


def alone(regime: str, share: float, epochs: int) -> int:
    """Return how many epochs teach the plain network alone: both phases have at least one."""
    return min(max(round(share * epochs), 1), epochs - 1) if regime == "mixed" else 0
