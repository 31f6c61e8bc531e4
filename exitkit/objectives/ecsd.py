"""ECSD: the deepest exit teaches the others, features through adapters that are trained.

Source
    Zhang, Bao, Ma: Self-Distillation: Towards Efficient and Compact Neural Networks, IEEE TPAMI
    44(8) 2022, and the authors' code.

Idea
    As in BYOT the deepest exit teaches the others with its predictions and its embedding. An
    embedding that must equal another is no longer free to serve its own classifier, so each is
    compared through a linear map of its own, which is thrown away after training.

Equations
    L = CE(z_K, y)
      + sum_{i<K} [ (1 - alpha) CE(z_i, y) + alpha CE( z_i / T, sg softmax(z_K / T) ) ]
      + feature sum_{i in S} || A_i f_i - sg f_K ||

Symbols
    K       exits, K the deepest
    z_i     logits of exit i
    f_i     embedding of exit i, [B, D]
    A_i     linear map with bias, trained with the network
    S       exits 2..K-1; `skip` says which of 1..K-1 is left out
    ||.||   Frobenius norm of the whole [B, D] matrix, neither squared nor averaged
    sg      stop gradient

Differences
    The code's comment says that the shallowest exit is left out of S; its list runs from deep to
    shallow, so it leaves out exit K-1: that is skip="deepest". As in the code there is no factor
    T^2. The norm grows with the root of the batch size; 0.03 belongs to 128 images. The maps exist
    before training; the code makes them after the first pass.

Reported
    Not comparable: the code trains with AutoAugment and Cutout.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from exitkit.errors import ConfigError, unknown
from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective, Which
from exitkit.objectives.functional import soft_cross_entropy
from exitkit.records import Batch, Blueprint, Clock, Exits, Labels, Outputs, ParamGroup

# What is skipped -> which exits are compared.
COMPARED: dict[str, Which] = {"shallowest": "middle", "deepest": "shallower", "none": "shallow"}


class AdaptedTeacher(Objective):
    """Distil the deepest exit into every other, comparing embeddings through adapters.

    Args:
        blueprint: of the network.
        alpha: weight of the distillation, and what the labels of the shallow exits lose.
        temperature: T of the softened predictions.
        feature: weight of the embeddings' difference.
        skip: whose embedding is not compared: "shallowest", "deepest" (of the shallow exits) or
            "none".
    """

    teaches = "all"
    sets_weights = True
    flow: ClassVar[dict[str, Flow]] = {
        "distillation": Flow(exits="shallow"),
        "feature": Flow(exits="middle", modules=("adapters",)),
    }
    plain: ClassVar[dict[str, float]] = {"alpha": 0.0, "feature": 0.0}

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        alpha: float = 0.3,
        temperature: float = 3.0,
        feature: float = 0.03,
        skip: str = "shallowest",
    ) -> None:
        super().__init__(blueprint)
        checks.share("alpha", alpha)
        checks.above_zero("temperature", temperature)
        checks.not_negative(feature=feature)
        checks.several_exits("ecsd", blueprint)
        if skip not in COMPARED:
            raise unknown("exit to skip", skip, COMPARED)
        self.alpha, self.temperature, self.feature = alpha, temperature, feature
        self.skip = skip
        compared = _compared(blueprint.exits, skip) if feature else ()
        widths = dict(zip(blueprint.exits, blueprint.embeddings, strict=True))
        deepest = blueprint.embeddings[-1]
        self.adapters = nn.ModuleDict({str(k): nn.Linear(widths[k], deepest) for k in compared})

    def flows(self) -> dict[str, Flow]:
        """Return the gradient-flow table, which depends on the exit that is skipped."""
        feature = Flow(exits=COMPARED[self.skip], modules=("adapters",))
        return {**self.flow, "feature": feature}

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Give the shallow exits weight 1 - alpha and the deepest 1."""
        weights = torch.full_like(labels.weights, 1 - self.alpha)
        weights[-1] = 1.0
        return labels.with_weights(weights)

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the distillation and the difference of the embeddings."""
        *shallow, deepest = out.main
        terms = {}
        if self.alpha:
            students = torch.stack([answer.logits for answer in shallow])  # [K - 1, B, C]
            taught = soft_cross_entropy(deepest.logits, students, self.temperature)
            terms["distillation"] = self.alpha * taught
        if self.feature:
            terms["feature"] = self.feature * self._difference(out.main)
        return terms

    def _difference(self, exits: Exits) -> Tensor:
        """Return the sum of the norms between adapted embeddings and the deepest one."""
        teacher = exits[-1].embedding.detach().float()
        by_number = {str(answer.number): answer.embedding for answer in exits}
        norms = [
            torch.linalg.vector_norm(adapter(by_number[number]).float() - teacher)
            for number, adapter in self.adapters.items()
        ]
        return torch.stack(norms).sum()

    def param_groups(self) -> list[ParamGroup]:
        """Step the adapters as the network is stepped."""
        if not len(self.adapters):
            return []
        return [ParamGroup("adapters", tuple(self.adapters.parameters()), "sgd", {})]


def _compared(exits: tuple[int, ...], skip: str) -> tuple[int, ...]:
    """Return the numbers of the exits whose embeddings are compared with the deepest one's."""
    *shallow, _ = exits
    left_out = {"shallowest": shallow[0], "deepest": shallow[-1]}.get(skip)
    compared = tuple(k for k in shallow if k != left_out)
    if not compared:
        raise ConfigError(
            f"method 'ecsd' on exits {', '.join(map(str, exits))}",
            f"skip={skip!r} leaves no exit whose feature could be compared",
            "write skip='none', or feature=0.0",
        )
    return compared
