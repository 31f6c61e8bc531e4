"""The names that users type, without torch, so that `--help` answers at once.

A guard checks these tables against the code.
"""

from exitkit.names.foreign import FRESH, PUBLISHED, SOURCES, exits, foreign, handwritten
from exitkit.names.methods import METHODS, Method
from exitkit.names.networks import HEADS, NETWORKS, PAPER, STEMS, Network, usual_stem

__all__ = [
    "DATASETS",
    "FRESH",
    "HEADS",
    "METHODS",
    "NETWORKS",
    "PAPER",
    "PUBLISHED",
    "SOURCES",
    "STEMS",
    "Method",
    "Network",
    "exits",
    "foreign",
    "handwritten",
    "usual_stem",
]

DATASETS: dict[str, str] = {
    "digits": "1,797 handwritten digits of scikit-learn, 32x32, no download (default)",
    "cifar10": "60,000 images, 10 classes; --download fetches the binary archive",
    "cifar100": "60,000 images, 100 classes; --download fetches the binary archive",
}
