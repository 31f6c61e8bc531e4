"""DSR: the sorted logits of the previous batch teach this batch how sure to be.

Source
    Wang, Han, Guo: Lightweight Self-Knowledge Distillation with Multi-source Information Fusion
    (LightSKD), arXiv 2305.09183, part DSR (distillation with shape-wise regularisation).

Idea
    Sorted logits carry no class, only the shape of a prediction: how far the best answer stands
    from the rest. Matching this shape to the previous batch's smooths it at no extra pass.

Equations
    s_t = sort_ascending(z_t)                    along the classes
    L   = CE(z_t, y) + beta KL_T( sg s_{t-1} || s_t )

Symbols
    z_t     logits of the deepest exit at step t
    sg      stop gradient
    KL_T    T^2 KL(softmax(./T) || softmax(./T)), mean over the batch; row b meets row b

Differences
    The first step, and a step whose batch is of another size than the one before, have no such
    term. (The authors drop the last short batch, and leave the term out at the start of every
    epoch.) The buffer is refreshed after every step; the released code refreshes it only when its
    other part, DRG, is on. T = 4 as in the code and the paper's ablation.

Reported
    CIFAR-100, ResNet-18: 78.15 % (baseline 77.29 %).
"""

from typing import ClassVar

from torch import Tensor

from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import kl, sorted_logits
from exitkit.objectives.memory import Memory
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs


class SortedLogits(Objective):
    """Match the sorted logits to those of the previous batch.

    Args:
        blueprint: of the network.
        beta: weight of the term.
        temperature: T.
    """

    flow: ClassVar[dict[str, Flow]] = {"sorted": Flow(exits="deepest")}
    plain: ClassVar[dict[str, float]] = {"beta": 0.0}

    def __init__(
        self, blueprint: Blueprint, *, beta: float = 1.0, temperature: float = 4.0
    ) -> None:
        super().__init__(blueprint)
        checks.not_negative(beta=beta)
        checks.above_zero("temperature", temperature)
        self.beta, self.temperature = beta, temperature
        self.previous = Memory(blueprint.classes)

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the divergence from the previous batch's sorted logits."""
        logits = out.main[-1].logits
        if not self.beta or len(self.previous) != len(logits):
            return {}
        divergence = kl(self.previous.value, sorted_logits(logits), self.temperature)
        return {"sorted": self.beta * divergence}

    def after_step(self, out: Outputs, batch: Batch, clock: Clock) -> None:
        """Remember this batch's sorted logits."""
        self.previous.keep(sorted_logits(out.main[-1].logits.detach()))
