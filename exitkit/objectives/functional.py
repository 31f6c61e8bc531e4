"""The mathematics that several methods share, as plain functions of tensors.

Every function casts to float32 first: networks run under autocast, losses never do. Only
element-wise products and sums are used, because autocast would run a matrix product in bf16.
Letters: K exits, M teachers, B batch, C classes, D embedding, h w positions.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

TINY = 1e-12


def one_hot(labels: Int[Tensor, " B"], classes: int) -> Float[Tensor, "B C"]:
    """Return 1 at each label and 0 elsewhere, without the host looking at the labels."""
    targets = torch.zeros(len(labels), classes, device=labels.device)
    return targets.scatter_(1, labels.unsqueeze(1), 1.0)


def smooth(targets: Float[Tensor, "*K B C"], smoothing: float) -> Float[Tensor, "*K B C"]:
    """Return targets of which every class gave `smoothing` evenly to all other classes."""
    others = (1 - targets) / (targets.shape[-1] - 1)
    return (1 - smoothing) * targets + smoothing * others


def cross_entropy(
    logits: Float[Tensor, "*K B C"], targets: Float[Tensor, "*K B C"]
) -> Float[Tensor, "*K B"]:
    """Return -sum_c q_c log softmax(z)_c per image: the one cross-entropy of the package.

    Args:
        logits: z.
        targets: q, class probabilities.
    """
    return -(targets.float() * F.log_softmax(logits.float(), dim=-1)).sum(dim=-1)


def total_cross_entropy(
    logits: Float[Tensor, "M B C"], targets: Float[Tensor, "... B C"]
) -> Float[Tensor, ""]:
    """Return the sum of M cross-entropies, each the mean over the batch.

    Args:
        logits: of M exits or networks.
        targets: class probabilities, the same for all [B, C] or for each its own [M, B, C].
    """
    return cross_entropy(logits, targets.expand_as(logits)).mean(dim=1).sum()


def soft_cross_entropy(
    teacher: Float[Tensor, "B C"], students: Float[Tensor, "M B C"], temperature: float | Tensor
) -> Float[Tensor, ""]:
    """Return the sum of CE(student / T, softmax(teacher / T)) over M students; no factor T^2.

    The teacher is detached.
    """
    taught = (teacher.detach().float() / temperature).softmax(dim=1)
    return total_cross_entropy(students.float() / temperature, taught)


def divergence(
    targets: Float[Tensor, "*K B C"], logs: Float[Tensor, "*K B C"]
) -> Float[Tensor, "*K B"]:
    """Return sum_c q_c (log q_c - log p_c) per image; a class that q leaves out counts nothing.

    Args:
        targets: q, class probabilities; detached.
        logs: log p, finite also where q is 0.
    """
    q = targets.detach().float()
    return (torch.xlogy(q, q) - q * logs.float()).sum(dim=-1)


def pairwise_kl(
    teachers: Float[Tensor, "M B C"],
    students: Float[Tensor, "K B C"],
    temperature: float,
    reverse: bool = False,
    live: bool = False,
) -> Float[Tensor, "M K"]:
    """Return the divergence of every student from every teacher, mean over the batch, times T^2.

    KL(softmax(teacher / T) || softmax(student / T)); `reverse` swaps the two sides of the
    divergence, not the roles: the gradient reaches the students only, the teachers too if `live`.
    """
    teachers = teachers if live else teachers.detach()
    taught = F.log_softmax(teachers.float() / temperature, dim=-1).unsqueeze(1)
    learned = F.log_softmax(students.float() / temperature, dim=-1).unsqueeze(0)
    first, second = (learned, taught) if reverse else (taught, learned)
    # [M, K, B, C] -> [M, K]
    divergence = (first.exp() * (first - second)).sum(dim=-1).mean(dim=-1)
    return divergence * temperature**2


def kl(
    teacher: Float[Tensor, "B C"],
    student: Float[Tensor, "B C"],
    temperature: float,
    reverse: bool = False,
) -> Float[Tensor, ""]:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch.

    The teacher is detached.
    """
    return pairwise_kl(teacher.unsqueeze(0), student.unsqueeze(0), temperature, reverse).squeeze()


def mutual_kl(logits: Float[Tensor, "M B C"], temperature: float) -> Float[Tensor, ""]:
    """Return the sum over M networks of each one's mean divergence from all others, as `kl`."""
    pairs = pairwise_kl(logits, logits, temperature)
    return (pairs.sum() - pairs.trace()) / (len(pairs) - 1)


def mix(weights: Float[Tensor, "B M K"], logits: Float[Tensor, "K B C"]) -> Float[Tensor, "M B C"]:
    """Return M weighted sums of K logits, with weights of their own for every image."""
    # [M, K, B, 1] x [1, K, B, C] -> [M, B, C]
    shares = weights.float().permute(1, 2, 0).unsqueeze(-1)
    return (shares * logits.float().unsqueeze(0)).sum(dim=1)


def powers(base: float, exits: int, last: int, device: torch.device) -> Float[Tensor, " K"]:
    """Return base^(K - 1 + last) .. base^last for exits 1..K."""
    exponents = torch.arange(float(exits), device=device).flip(0) + last
    found: Tensor = base**exponents
    return found


def weigh_deepest(weights: Tensor, factor: float) -> Tensor:
    """Return the exits' weights, [K] or per image [K, B], with the deepest one's times `factor`."""
    factors = torch.ones_like(weights)
    factors[-1] = factor
    return weights * factors


def hint(student: Float[Tensor, "B D"], teacher: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Return the SUM over batch and channels of (a - b)^2 where a or b is above zero.

    The teacher is detached.
    """
    a, b = student.float(), teacher.detach().float()
    return ((a - b).square() * ((a > 0) | (b > 0))).sum()


def channels(shape: tuple[int, ...]) -> int:
    """Return D of a stage's output of shape (D, h, w), or (N, D) where it is tokens."""
    return shape[0] if len(shape) == 3 else shape[1]


def pooled(hidden: Float[Tensor, "B ..."]) -> Float[Tensor, "B D"]:
    """Return the mean over positions of maps [B, D, h, w], or over tokens [B, N, D]."""
    return hidden.mean(dim=(2, 3)) if hidden.dim() == 4 else hidden.mean(dim=1)


def attention(feature: Float[Tensor, "B D h w"]) -> Float[Tensor, "B P"]:
    """Return the mean over channels of the squared feature, positions flattened."""
    return feature.float().square().mean(dim=1).flatten(1)


def normalised_mse(
    student: Float[Tensor, "B ..."], teacher: Float[Tensor, "B ..."]
) -> Float[Tensor, ""]:
    """Return the mean squared difference of both sides, each scaled to length 1 per image.

    The teacher is detached.
    """
    a, b = unit(student), unit(teacher.detach())
    return (a - b).square().mean()


def unit(values: Float[Tensor, "B ..."]) -> Float[Tensor, "B P"]:
    """Return the values flattened per image and divided by their Euclidean length."""
    return F.normalize(values.float().flatten(1), dim=1, eps=TINY)


def sorted_logits(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Return each image's logits in ascending order; gradients flow through the order."""
    return logits.float().sort(dim=-1).values


def off_diagonal_mean(matrices: Float[Tensor, "*B N N"]) -> Float[Tensor, ""]:
    """Return the mean of all entries that are not on a diagonal."""
    size = matrices.shape[-1]
    eye = torch.eye(size, dtype=torch.bool, device=matrices.device)
    total = matrices.float().masked_fill(eye, 0.0).sum(dim=(-2, -1)).mean()
    return total / (size * (size - 1))


def cosines(rows: Float[Tensor, "B M K"]) -> Float[Tensor, "B M M"]:
    """Return the cosine between every two rows of each image's matrix."""
    scaled = F.normalize(rows.float(), dim=-1, eps=TINY)
    # [B, M, 1, K] x [B, 1, M, K] -> [B, M, M]
    return (scaled.unsqueeze(2) * scaled.unsqueeze(1)).sum(dim=-1)
