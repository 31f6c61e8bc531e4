"""The cost table of a bundle on one machine, and the least that leaving early could cost.

The table lies beside the bundle, because it belongs to the machine and not to the bundle:
`<bundle>.costs.json` is the processor's, every other provider has its own, such as
`<bundle>.costs-cuda.json`. It carries the machine's fingerprint, and another machine refuses it.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exitkit import machine
from exitkit.atomic import write_text
from exitkit.errors import BundleError, ConfigError

# The processor's, as in exitkit.engine.ort; whatever else a segment's pool says is a provider.
THREAD_POOLS = ("private", "shared")
SCHEMA = "1.0"


@dataclass(frozen=True)
class Costs:
    """Measured milliseconds of a bundle's segments.

    Attributes:
        network: digest of the weights.
        exits: numbers of the kept exits, shallow to deep.
        pool, threads: what computed: a pool of the processor's threads, or a provider's name.
        batch_sizes: rising, B of them.
        segment_ms: [K][B] median of the rounds, of one segment on a whole batch.
        all_segments_ms: [B] the same of all segments in a row with no exit: every head that was
            kept is run and the policy is not asked. (The network without early heads is not in
            a bundle.)
        rounds: of which each number is the median.
        fingerprint, machine: what it was measured on.
    """

    network: str
    exits: tuple[int, ...]
    pool: str
    threads: int
    batch_sizes: tuple[int, ...]
    segment_ms: tuple[tuple[float, ...], ...]
    all_segments_ms: tuple[float, ...]
    rounds: int
    fingerprint: str
    machine: dict[str, str | int]
    schema: str = SCHEMA

    @property
    def provider(self) -> str:
        """What computed: "cpu", or the provider's name."""
        return "cpu" if self.pool in THREAD_POOLS else self.pool

    @property
    def computed(self) -> str:
        """What computed, in words."""
        if self.pool in THREAD_POOLS:
            return f"{self.threads} threads, {self.pool} pool"
        return f"provider {self.pool}"

    def ms(self, position: int, rows: float) -> float:
        """Return the time of the segment at `position` on `rows` images.

        Between two measured batch sizes it is interpolated linearly; below one image, the share
        of one image's time.

        Raises:
            ConfigError: more rows than were measured.
        """
        if rows > self.batch_sizes[-1]:
            raise ConfigError(
                f"the time of {rows:g} images",
                f"measured up to {self.batch_sizes[-1]}",
                f"run exitkit bench with batch size {rows:g} or more",
            )
        sizes, times = (0.0, *self.batch_sizes), (0.0, *self.segment_ms[position])
        return float(np.interp(rows, sizes, times))


def limit_ms(costs: Costs, shares: Sequence[float], batch: int) -> float:
    """Return the least time per batch: every segment at just the rows that reach it.

    That is the sum over k of segment k's time at round(batch x reach_k) rows, where reach_k is
    the share that left at no exit before k. Fewer rows than one, and a batch of one image, count
    as that share of one image's time: the mean over many batches.

    Args:
        costs: of the same exits.
        shares: per exit, the share of images that leave there; they add up to 1.
        batch: images at once.

    Raises:
        ConfigError: shares of other exits, or a batch beyond what was measured.
    """
    if len(shares) != len(costs.exits) or abs(sum(shares) - 1.0) > 1e-6:
        raise ConfigError(
            f"a limit for exits {costs.exits}",
            f"shares {tuple(shares)}",
            "give one share per exit that add up to 1",
        )
    total, reach = 0.0, 1.0
    for position, share in enumerate(shares):
        rows = batch * reach
        if batch > 1 and rows >= 0.5:
            rows = max(1, int(rows + 0.5))
        total += costs.ms(position, max(rows, 0.0))
        reach -= share
    return total


def path_of(bundle: Path, provider: str = "cpu") -> Path:
    """Return where the table of a bundle's folder and a provider lies: beside the folder."""
    whose = "" if provider == "cpu" else f"-{provider}"
    return bundle.parent / f"{bundle.name}.costs{whose}.json"


def write(path: Path, costs: Costs) -> None:
    """Write a table, whole or not at all."""
    write_text(path, json.dumps(dataclasses.asdict(costs), indent=2) + "\n")


def read(path: Path, network: str | None = None, provider: str = "cpu") -> Costs:
    """Read a table that was measured on this machine.

    Args:
        path: of the table.
        network: digest of the bundle's weights, to refuse a table of another network.
        provider: what has to have computed.

    Raises:
        BundleError: none there, damaged, of another schema, machine, provider or network.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        costs = Costs(**{name: _tuples(value) for name, value in table.items()})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BundleError(str(path), f"no table of costs ({error})", "run exitkit bench") from error
    if costs.schema.split(".")[0] != SCHEMA.split(".")[0]:
        raise BundleError(
            str(path), f"schema {costs.schema}, this exitkit reads {SCHEMA}", "run exitkit bench"
        )
    here = machine.fingerprint()
    if costs.fingerprint != here:
        raise BundleError(
            f"costs of this machine ({here}: {machine.describe()['cpu']})",
            f"{path} was measured on {costs.fingerprint}: {costs.machine.get('cpu', 'unknown')}",
            "run exitkit bench here",
        )
    if costs.provider != provider:
        raise BundleError(
            f"costs of provider {provider}",
            f"{path} was measured with provider {costs.provider}",
            "run exitkit bench with that --provider",
        )
    if network is not None and costs.network != network:
        raise BundleError(
            f"costs of network {network[:12]}",
            f"{path} has those of network {costs.network[:12]}",
            "run exitkit bench",
        )
    return costs


def _tuples(value: Any) -> Any:  # Any: a JSON value
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
