"""Attention as OKDDip has it: each of several answers asks all of them for their weights."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Attention(nn.Module):
    """Find how each of M ensembles weighs M answers: softmax_row( (x Wq) (x Wk)^T s ).

    Args:
        width: D of the embeddings; Wq and Wk are D -> d = D / 8, without bias.
        scaled: whether s is 1 / sqrt(d); 1 otherwise.
    """

    def __init__(self, width: int, scaled: bool = False) -> None:
        super().__init__()
        inner = max(1, width // 8)
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, inner, bias=False)
        self.scale = 1 / math.sqrt(inner) if scaled else 1.0

    def forward(self, embeddings: Float[Tensor, "B M D"]) -> Float[Tensor, "B M M"]:
        """Return per image one row of weights for each ensemble; rows sum to 1."""
        queries, keys = self.query(embeddings).float(), self.key(embeddings).float()
        # [B, M, 1, d] x [B, 1, M, d] -> [B, M, M]
        scores = (queries.unsqueeze(2) * keys.unsqueeze(1)).sum(dim=-1) * self.scale
        return torch.softmax(scores, dim=-1)
