"""Networks that exitkit does not have itself, named by where they come from; without torch."""

from exitkit.names.networks import NETWORKS

SOURCES: dict[str, str] = {
    "torchvision": "torchvision:NAME",
    "timm": "timm:NAME",
    "python": "python:MODULE:FUNCTION",
}
# Instead of a run or a file of weights: none, or those that a network's makers publish.
FRESH = "fresh"
PUBLISHED = ("default", "pretrained")


def foreign(arch: str) -> bool:
    """Whether a network comes from elsewhere and is cut where `at` says."""
    source, colon, name = arch.partition(":")
    return source in SOURCES and bool(colon and name)


def handwritten(arch: str) -> bool:
    """Whether a network is what a function of the user's own returns."""
    return foreign(arch) and arch.startswith("python:")


def exits(arch: str, at: tuple[str, ...]) -> int:
    """Return how many exits a network has at most; a foreign one's end is one more than its cuts.

    Args:
        arch: a name of NETWORKS, or a foreign one.
        at: where a foreign network is cut.
    """
    return len(at) + 1 if foreign(arch) else NETWORKS[arch].exits
