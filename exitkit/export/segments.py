"""Cut a network with exits into runnable pieces, one per kept exit.

A segment runs the stages since the kept exit before it, then its own head. Heads that are not
kept appear in no segment: they are neither run nor paid.
"""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exitkit.models.exitnet import ExitNet


class SegmentModule(nn.Module):
    """The stages from one kept exit to the next, and that exit's head.

    Args:
        piece: a network of just these stages with the one head.
        deepest: whether no segment follows; then nothing is handed on.
    """

    def __init__(self, piece: ExitNet, deepest: bool) -> None:
        super().__init__()
        self.piece = piece
        self.deepest = deepest

    @property
    def exit(self) -> int:
        """The number of the exit that answers here."""
        return self.piece.deepest

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what `forward` returns, in order."""
        return ("logits",) if self.deepest else ("logits", "hidden_out")

    def forward(self, hidden: Float[Tensor, "B ..."]) -> tuple[Tensor, ...]:
        """Return logits [B, C] and, unless this is the deepest kept exit, the hidden output."""
        for k in range(self.piece.first, self.piece.deepest + 1):
            hidden = self.piece.stage(k, hidden)
        logits = self.piece.head(self.exit, hidden).logits
        return (logits,) if self.deepest else (logits, hidden)


def cut(network: ExitNet, exits: Sequence[int]) -> tuple[SegmentModule, ...]:
    """Return one segment per kept exit, shallow to deep, in evaluation mode on the CPU.

    The segments are copies in float32: the caller's network is not touched.

    Args:
        network: a whole network (its first stage takes images).
        exits: numbers of the kept exits, ascending; each must be an exit of the network.
    """
    own = copy.deepcopy(network).cpu().float().to(memory_format=torch.contiguous_format).eval()
    segments, first = [], own.first
    for k in exits:
        stages = [own.stages[str(i)] for i in range(first, k + 1)]
        piece = ExitNet(stages, {k: own.heads[str(k)]}, first=first)
        segments.append(SegmentModule(piece, deepest=k == exits[-1]).eval())
        first = k + 1
    return tuple(segments)


@torch.no_grad()
def input_shapes(
    segments: Sequence[SegmentModule], height: int, width: int
) -> tuple[tuple[int, ...], ...]:
    """Return the shape of what each segment takes, images, maps (D, h, w) or tokens (N, D).

    Found by running one black image.
    """
    hidden, shapes = torch.zeros(1, 3, height, width), []
    for segment in segments:
        shapes.append(tuple(hidden.shape[1:]))
        hidden = segment(hidden)[-1]
    return tuple(shapes)
