"""Which bundles a server may load: those it was given, and those that lie beside them."""

from collections.abc import Sequence
from pathlib import Path

from exitkit.bundle import MANIFEST
from exitkit.errors import ConfigError
from exitkit.serve import warmup
from exitkit.serve.limits import Limits
from exitkit.serve.metrics import Metrics
from exitkit.serve.models import Models
from exitkit.serve.service import Service


def collect(
    folders: Sequence[Path],
    threshold: float | None,
    limits: Limits,
    pool: str = "auto",
    threads: int | None = None,
    provider: str = "cpu",
) -> Models:
    """Name the models of a server: these bundles, and what may be loaded beside them later.

    Args:
        folders: of the bundles that are loaded first. Every bundle that lies beside one of them
            can be loaded by its name while the server runs.
        threshold: for all exits, instead of each bundle's own policy.
        limits: of the server.
        pool: of threads, see `warmup.prepare`.
        threads: of the pool; all cores where None.
        provider: what computes.

    Raises:
        ConfigError: two bundles of one name, or more than the limit.
    """
    given = {folder.name: folder for folder in (Path(one).resolve() for one in folders)}
    if len(given) < len(folders) or not 0 < len(given) <= limits.models:
        raise ConfigError(
            f"{len(folders)} bundles",
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

    def prepare(folder: Path) -> Service:
        return warmup.prepare(folder, threshold, limits, pool, threads, provider)

    return Models(tuple(given), bundles, prepare, limits, Metrics())
