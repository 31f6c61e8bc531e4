"""Phuong & Lampert: the deepest exit teaches the others, ever softer as it becomes sure.

Source
    Phuong, Lampert: Distillation-Based Training for Multi-Exit Architectures, ICCV 2019, and the
    authors' code.

Idea
    Every exit learns from the labels, and every shallow one also from the deepest exit's softened
    predictions. A fixed temperature is too high at first and too low at the end, so it rises
    whenever the deepest exit becomes surer than half.

Equations
    L = S [ (1 - alpha) sum_i CE(z_i, y)
          + alpha T^2 sum_{i<K} CE( z_i / T, sg softmax(z_K / T) ) ]
    after every step:  m = mean over the batch of max_c softmax(z_K / T)_c
                       T <- growth T   where m > sure

Symbols
    K     exits, K the deepest
    z_i   logits of exit i
    T     `temperature` at the start of the run
    S     `scale`
    sg    stop gradient

Differences
    None from the authors' code; C in the paper is `alpha`. Their other policy, a constant
    temperature, is temperature=4.0, growth=1.0. Where `sure` is not above 1 / C for C classes, T
    would rise for ever: that is refused, and happens with two classes and the default.

Reported
    Only as curves: MSDNet with 11 exits, CIFAR-100 with 100 training images per class.
"""

from typing import ClassVar

import torch
from torch import Tensor

from exitkit.errors import ConfigError
from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import soft_cross_entropy
from exitkit.records import Batch, Blueprint, Clock, Labels, Outputs


class AnnealedDistillation(Objective):
    """Distil the deepest exit into every other at a temperature that follows its sureness.

    Args:
        blueprint: of the network.
        alpha: weight of the distillation, and what the labels lose.
        temperature: T at the start.
        growth: factor of T after a step in which the deepest exit was sure; 1 keeps T.
        sure: mean of the largest class probability above which the deepest exit is sure.
        scale: factor of the whole loss; 0 is 10 / K for K exits, as in the paper.
    """

    teaches = "all"
    sets_weights = True
    flow: ClassVar[dict[str, Flow]] = {"distillation": Flow(exits="shallow")}
    plain: ClassVar[dict[str, float]] = {"alpha": 0.0, "scale": 1.0}
    temperature: Tensor

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        alpha: float = 0.5,
        temperature: float = 1.0,
        growth: float = 1.05,
        sure: float = 0.5,
        scale: float = 0.0,
    ) -> None:
        super().__init__(blueprint)
        checks.share("alpha", alpha)
        checks.share("sure", sure)
        checks.above_zero("temperature", temperature)
        checks.at_least("growth", growth, 1)
        checks.not_negative(scale=scale)
        checks.several_exits("phuong", blueprint)
        if growth > 1 and sure <= 1 / blueprint.classes:
            raise ConfigError(
                f"sure={sure} on {blueprint.classes} classes",
                "every prediction is that sure, so that the temperature would rise for ever",
                f"give more than {1 / blueprint.classes:.3g}, or growth=1.0",
            )
        self.alpha, self.growth, self.sure = alpha, growth, sure
        self.scale = scale or 10 / len(blueprint.exits)
        self.register_buffer("temperature", torch.tensor(temperature))

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Give every exit weight S (1 - alpha)."""
        weight = self.scale * (1 - self.alpha)
        return labels.with_weights(torch.full_like(labels.weights, weight))

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the distillation."""
        if not self.alpha:
            return {}
        *shallow, deepest = out.main
        students = torch.stack([answer.logits for answer in shallow])  # [K - 1, B, C]
        taught = soft_cross_entropy(deepest.logits, students, self.temperature)
        factor = self.scale * self.alpha * self.temperature.square()
        return {"distillation": factor * taught}

    @torch.no_grad()
    def after_step(self, out: Outputs, batch: Batch, clock: Clock) -> None:
        """Raise the temperature where the deepest exit is sure; the host does not look."""
        softened = (out.main[-1].logits.float() / self.temperature).softmax(dim=1)
        sureness = softened.amax(dim=1).mean()
        risen = self.growth * self.temperature
        self.temperature = torch.where(sureness > self.sure, risen, self.temperature)
