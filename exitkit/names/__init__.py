"""The names that users type, without torch, so that `--help` answers at once.

A guard checks these tables against the code.
"""

from exitkit.names.methods import METHODS, Method
from exitkit.names.networks import HEADS, NETWORKS, STEMS, Network

__all__ = ["DATASETS", "HEADS", "METHODS", "NETWORKS", "STEMS", "Method", "Network"]

DATASETS: dict[str, str] = {
    "digits": "1,797 handwritten digits of scikit-learn, 32x32, no download (default)",
    "cifar10": "60,000 images, 10 classes; --download fetches the binary archive",
    "cifar100": "60,000 images, 100 classes; --download fetches the binary archive",
}
