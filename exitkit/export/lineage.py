"""Which networks are those of one run: its own, and those that it had before it went on training.

A run's folder can be removed and its name be given to another run, so names do not tell. Digests
of weights do, and the journal in the run's folder knows those that the run had. No torch.
"""

from exitkit import journal
from exitkit.bundle import Manifest
from exitkit.runs import Run

# Events of a run's journal that name its network. (`prune` names that of another run.)
EVENTS = ("finish", "evaluate", "export")


def earlier(run: Run, weights: str) -> tuple[str, ...]:
    """Return the digests of the other networks that a run had, in the order of its journal.

    Args:
        run: whose journal is read.
        weights: digest of its present network.
    """
    told = (row.get("network") for row in journal.read(run.journal) if row["event"] in EVENTS)
    return tuple(dict.fromkeys(one for one in told if isinstance(one, str) and one != weights))


def of(manifest: Manifest) -> tuple[str, ...]:
    """Return the digests of the run's networks when a bundle was exported, the bundle's first."""
    origin = manifest.origin
    return (str(origin.get("weights", manifest.network)), *map(str, origin.get("earlier", ())))
