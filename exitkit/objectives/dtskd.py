"""DTSKD: branches from the deepest feature down learn from the network and from their own past.

Source
    Li et al.: Dual teachers for self-knowledge distillation, Pattern Recognition 2024, and the
    authors' code.

Idea
    Two teachers. One is the past: every classifier learns from labels that give way, over the run,
    to what it said of the same image an epoch ago. The other is the network: a chain of small
    branches, from the deepest pooled feature back to the shallowest, learns from its logits, and
    the stages learn through them.

Equations
    q_v  = a_e y + (1 - a_e) P_v                      for the network's end and for every branch
    a_e  = hard (cos(pi e / E) + 1) / 2
    L    = main CE(z, q) + branches sum_b CE(z_b, q_b) + distillation sum_b KL_T( sg z || z_b )
    u_b  = up_b( m_{b+1} );  m_b = merge_b( [u_b + side_b( GAP(h_b) ), u_b] );  z_b = FC_b( m_b )
    P_v <- sg softmax(z_v)                            after the step

Symbols
    z, z_b   logits of the deepest exit, of branch b = K-1 .. 1
    h_b      output of stage b; m_K is the deepest exit's embedding
    P_v      predictions per training image; the label where it was not seen yet
    e, E     epoch (from 0) and number of epochs
    up, side, merge   linear maps to `width` channels with BN and ReLU
    sg       stop gradient
    KL_T     T^2 KL(softmax(./T) || softmax(./T)), mean over the batch

Differences
    The released code remembers nothing after the first epoch unless it runs on several GPUs; here
    every step is remembered. It lets the divergence move z too, which `live` does.
    `main` is 0.2 * 3 in the paper, `branches` 0.2: three branches below four stages. They are
    numbers of their own here, for networks with other stages. CE stands for KL(q || z), which
    differs by a constant. `memory` scales the share 1 - a_e of the past.
    In a sum the branches learn from what the parts before this one made of the labels: `ls+dtskd`
    smooths theirs too, `dtskd+ls` those of the deepest exit alone.
    A batch of one image has no branches, because batch norm cannot see one, and is not remembered.

Reported
    ImageNet, ResNet-18: 70.39 % (as measured by the authors of LOTH).
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exitkit.objectives import checks
from exitkit.objectives.base import Flow, Objective
from exitkit.objectives.functional import (
    channels,
    pairwise_kl,
    pooled,
    total_cross_entropy,
    weigh_deepest,
)
from exitkit.objectives.table import Table
from exitkit.records import Batch, Blueprint, Clock, Exits, Labels, Outputs, ParamGroup


def _linear(inputs: int, outputs: int) -> nn.Sequential:
    # On pooled features a 1x1 convolution is a linear map.
    return nn.Sequential(
        nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)
    )


class Branch(nn.Module):
    """Merge what comes from above with one stage's pooled output, and classify it.

    Args:
        above: width of what comes from above.
        channels: of the stage.
        width: of the merged feature.
        classes: C.
    """

    def __init__(self, above: int, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.up = _linear(above, width)
        self.side = _linear(channels, width)
        self.merge = _linear(2 * width, width)
        self.classifier = nn.Linear(width, classes)

    def forward(
        self, above: Float[Tensor, "B W"], pooled: Float[Tensor, "B D"]
    ) -> tuple[Tensor, Tensor]:
        """Return logits [B, C] and the merged feature [B, width]."""
        up = self.up(above)
        merged = self.merge(torch.cat([up + self.side(pooled), up], dim=1))
        return self.classifier(merged), merged


class TopDown(nn.Module):
    """Branches in a chain, deep to shallow.

    Args:
        embedding: width of the deepest exit's embedding.
        channels: of every stage but the last, shallow to deep.
        width: of the branches.
        classes: C.
    """

    def __init__(self, embedding: int, channels: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        above = [embedding, *[width] * (len(channels) - 1)]
        self.chain = nn.ModuleList(
            Branch(a, c, width, classes) for a, c in zip(above, reversed(channels), strict=True)
        )

    def forward(self, exits: Exits) -> Float[Tensor, "M B C"]:
        """Return the logits of the branches, deep to shallow."""
        feature, logits = exits[-1].embedding, []
        for branch, hidden in zip(self.chain, reversed(exits.hidden[:-1]), strict=True):
            said, feature = branch(feature, pooled(hidden))
            logits.append(said)
        return torch.stack(logits)


class DualTeachers(Objective):
    """Teach the network and top-down branches with their past, and the branches with the network.

    Args:
        blueprint: of the network.
        main: weight of the labels at the deepest exit.
        branches: weight of the labels at each branch.
        distillation: weight of the divergences.
        temperature: T.
        hard: share of the labels in the first epoch.
        memory: factor on the share of the past; 0 has none.
        width: channels of the branches.
        live: whether the divergences move the network's logits too.
    """

    reads = frozenset({"index"})
    flow: ClassVar[dict[str, Flow]] = {
        "branches": Flow(exits="deepest", modules=("top_down",), hidden="shallow"),
        "distillation": Flow(exits="deepest", modules=("top_down",), hidden="shallow"),
    }
    plain: ClassVar[dict[str, float]] = {
        "main": 1.0,
        "branches": 0.0,
        "distillation": 0.0,
        "memory": 0.0,
    }

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        main: float = 0.6,
        branches: float = 0.2,
        distillation: float = 0.8,
        temperature: float = 4.0,
        hard: float = 0.9,
        memory: float = 1.0,
        width: int = 512,
        live: bool = False,
    ) -> None:
        super().__init__(blueprint)
        checks.not_negative(main=main, branches=branches, distillation=distillation)
        checks.above_zero("temperature", temperature)
        checks.share("hard", hard)
        checks.share("memory", memory)
        checks.at_least("width", width, 1)
        self.main, self.branches, self.distillation = main, branches, distillation
        self.temperature, self.hard, self.past, self.live = temperature, hard, memory, live
        checks.earlier_stage("dtskd", 1, blueprint)
        widths = [channels(shape) for shape in blueprint.hidden[:-1]]
        self.top_down = TopDown(blueprint.embeddings[-1], widths, width, blueprint.classes)
        # of the deepest exit, then of the branches, deep to shallow
        self.memory = Table(blueprint.samples, 1 + len(widths), blueprint.classes)
        # of the running step only, from one verb to the next
        self._told: Tensor | None = None
        self._said: Tensor | None = None

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Mix the past into the deepest exit's labels and weigh them; keep the branches' labels."""
        hard = self.hard * (math.cos(math.pi * clock.epoch / clock.epochs) + 1) / 2
        share = self.past * (1 - hard)
        plain = labels.targets[-1].unsqueeze(1)  # [B, 1, C]
        past = self.memory.read(batch.index, plain)
        told = ((1 - share) * plain + share * past).transpose(0, 1)  # [1 + M, B, C]
        self._told = told[1:]
        weights = weigh_deepest(labels.weights, self.main)
        targets = torch.cat([labels.targets[:-1], told[:1]])
        return labels.with_targets(targets).with_weights(weights)

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what the branches learn from their labels and from the network."""
        if len(batch.labels) == 1 or not (self.branches or self.distillation):
            return {}
        said = self.top_down(out.main)
        self._said = said.detach()
        terms = {}
        if self.branches:
            assert self._told is not None
            terms["branches"] = self.branches * total_cross_entropy(said, self._told)
        if self.distillation:
            network = out.main[-1].logits.unsqueeze(0)
            pairs = pairwise_kl(network, said, self.temperature, live=self.live)
            terms["distillation"] = self.distillation * pairs.sum()
        return terms

    @torch.no_grad()
    def after_step(self, out: Outputs, batch: Batch, clock: Clock) -> None:
        """Remember what the deepest exit and the branches said."""
        said, self._told, self._said = self._said, None, None
        if len(batch.labels) == 1:
            return
        network = out.main[-1].logits.float().softmax(dim=1)
        if said is None:
            # Without branches only the network's own past is read.
            voices = network.unsqueeze(1).expand(-1, self.memory.rows.shape[1], -1)
        else:
            past = said.float().softmax(dim=2).transpose(0, 1)  # [B, M, C]
            voices = torch.cat([network.unsqueeze(1), past], dim=1)
        self.memory.write(batch.index, voices)

    def param_groups(self) -> list[ParamGroup]:
        """Step the branches as the network is stepped."""
        return [ParamGroup("top_down", tuple(self.top_down.parameters()), "sgd", {})]
