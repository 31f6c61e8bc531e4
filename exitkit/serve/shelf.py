"""Which bundles a server may load: those it was given, and those that lie beside them."""

from pathlib import Path

from exitkit.bundle import MANIFEST
from exitkit.errors import ConfigError
from exitkit.serve import pools, warmup
from exitkit.serve.metrics import Metrics
from exitkit.serve.models import Models
from exitkit.serve.service import Service
from exitkit.serve.settings import Settings


def collect(settings: Settings, counts: Path | None = None) -> Models:
    """Name the models of a server: its bundles, and what may be loaded beside them later.

    Every bundle that lies beside one of them can be loaded by its name while the server runs.

    Args:
        settings: of the server.
        counts: file for what this process counts, see `Metrics`; None: there is one process.

    Raises:
        ConfigError: two bundles of one name, or more than the limit.
    """
    limits = settings.limits
    given = {folder.name: folder for folder in (Path(one).resolve() for one in settings.bundles)}
    if len(given) < len(settings.bundles) or not 0 < len(given) <= limits.models:
        raise ConfigError(
            f"{len(settings.bundles)} bundles",
            f"{len(given)} names, the limit is {limits.models}",
            "give each bundle once",
        )

    def bundles() -> dict[str, Path]:
        beside = {folder.parent: None for folder in given.values()}
        found = {
            manifest.parent.name: manifest.parent
            for parent in beside
            for manifest in sorted(parent.glob(f"*/{MANIFEST}"))
            if not manifest.parent.is_symlink()
        }
        return {**found, **given}

    tried: list[tuple[str, dict[str, float]]] = []

    def prepare(folder: Path) -> Service:
        # The first model decides for all: measured again beside requests, the pools would lie.
        if not tried:
            tried.append(pools.choose(folder, settings))
        return warmup.prepare(folder, settings, *tried[0])

    return Models(tuple(given), bundles, prepare, limits, Metrics(counts))
