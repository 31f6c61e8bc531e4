"""The policy of a bundle: which image leaves at which exit.

It lies in a file of its own that carries the digest of the network it belongs to, so that it can
be replaced while the network stays.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32
from numpy.typing import NDArray

from exitkit.atomic import write_text
from exitkit.errors import BundleError, ConfigError
from exitkit.policy import criteria

SCHEMA = "1.0"
CRITERION = "max_probability"

# What a batch carries from exit to exit: arrays whose leading axis is the rows still running.
State = dict[str, NDArray[Any]]  # Any: whatever type a criterion needs
# A setting for all rows, or one per row.
PerRow = NDArray[Any] | Sequence[Any] | float | int  # Any: any numbers; shapes are checked


@dataclass(frozen=True)
class Policy:
    """Thresholds on the calibrated probability of each exit's own answer.

    Attributes:
        network: digest of the weights that it was made for.
        exits: numbers of the kept exits, shallow to deep; the deepest always answers.
        thresholds: one per exit but the deepest, each in 0..1.
        temperatures: one per exit, above 0; logits are divided by it.
    """

    network: str
    exits: tuple[int, ...]
    thresholds: tuple[float, ...]
    temperatures: tuple[float, ...]

    def __post_init__(self) -> None:
        k = len(self.exits)
        if k == 0 or list(self.exits) != sorted(set(self.exits)):
            raise ConfigError(f"exits {self.exits}", "not rising", "name each exit once, in order")
        if len(self.thresholds) != k - 1 or len(self.temperatures) != k:
            raise ConfigError(
                f"a policy for {k} exits",
                f"{len(self.thresholds)} thresholds and {len(self.temperatures)} temperatures",
                f"give {k - 1} thresholds and {k} temperatures",
            )
        _check_thresholds(np.asarray(self.thresholds, dtype=np.float64))
        if not all(0.0 < t < float("inf") for t in self.temperatures):
            raise ConfigError("temperatures", str(self.temperatures), "give finite numbers above 0")

    def with_threshold(self, threshold: float) -> "Policy":
        """Return the same policy with one threshold for every exit but the deepest.

        Raises:
            ConfigError: it is outside 0..1, also where there is no early exit to use it.
        """
        _check_thresholds(np.asarray(threshold, dtype=np.float64))
        return replace(self, thresholds=(float(threshold),) * (len(self.exits) - 1))

    def require(self, network: str, exits: Sequence[int]) -> None:
        """Refuse to judge another network than the policy's own.

        Raises:
            BundleError: digest or exits differ.
        """
        if network != self.network:
            raise BundleError(
                f"a policy for network {network[:12]}",
                f"this one belongs to network {self.network[:12]}",
                "use the policy that was exported with the bundle, or export again",
            )
        if tuple(exits) != self.exits:
            raise BundleError(
                f"a policy for exits {tuple(exits)}",
                f"this one is for exits {self.exits}",
                "use the policy that was exported with the bundle, or export again",
            )

    def start(
        self, n: int, thresholds: PerRow | None = None, max_exit: PerRow | None = None
    ) -> State:
        """Return the state of `n` rows before the first exit.

        Args:
            n: rows.
            thresholds: instead of the policy's own: [K-1] for all rows, or [n, K-1].
            max_exit: number of the exit at which a row leaves at the latest: one for all
                rows, or [n].

        Raises:
            ConfigError: other shapes, thresholds outside 0..1, an exit that is not kept.
        """
        state: State = {}
        if thresholds is not None:
            state["thresholds"] = self._rows_of_thresholds(n, thresholds)
        if max_exit is not None:
            state["last"] = self._last_positions(n, max_exit)
        return state

    def step(
        self, position: int, logits: Float32[np.ndarray, "n C"], state: State
    ) -> tuple[Bool[np.ndarray, " n"], Float32[np.ndarray, " n"], State]:
        """Decide which rows leave at the exit at `position` (0-based among the kept exits).

        The caller keeps, in hidden and in every array of the state, the rows that stay.

        Returns:
            leave: [n]; all true at the deepest exit.
            confidence: [n], the probability of each row's own answer at this exit.
            state: for the next exit, still of all n rows.
        """
        confidence = criteria.max_probability(logits, self.temperatures[position])
        if position == len(self.exits) - 1:
            return np.ones(len(confidence), dtype=np.bool_), confidence, state
        own = state.get("thresholds")
        threshold = self.thresholds[position] if own is None else own[:, position]
        leave = criteria.leaves(confidence, threshold)
        if "last" in state:
            leave |= state["last"] <= position
        return leave, confidence, state

    def to_json(self) -> dict[str, Any]:  # Any: a JSON value
        """Return what `from_json` takes."""
        return {
            "schema": SCHEMA,
            "network": self.network,
            "criterion": CRITERION,
            "exits": list(self.exits),
            "thresholds": list(self.thresholds),
            "temperatures": list(self.temperatures),
        }

    @classmethod
    def from_json(cls, table: Any) -> "Policy":  # Any: unchecked JSON
        """Read a policy's table.

        Raises:
            BundleError: another schema or criterion, or values that make no policy.
        """
        try:
            schema, criterion = str(table["schema"]), table["criterion"]
            if schema.split(".")[0] != SCHEMA.split(".")[0] or criterion != CRITERION:
                raise BundleError(
                    "policy",
                    f"schema {schema}, criterion {criterion!r}; this exitkit reads "
                    f"schema {SCHEMA}, criterion {CRITERION!r}",
                    "export it again",
                )
            return cls(
                network=str(table["network"]),
                exits=tuple(int(k) for k in table["exits"]),
                thresholds=tuple(float(t) for t in table["thresholds"]),
                temperatures=tuple(float(t) for t in table["temperatures"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError, ConfigError) as error:
            raise BundleError(
                "policy", f"was edited ({error!r})", "give whole values, or export it again"
            ) from error

    @classmethod
    def read(cls, path: Path) -> "Policy":
        """Read a policy file.

        Raises:
            BundleError: it is missing, damaged, or of another schema.
        """
        try:
            table = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(str(path), f"no policy ({error})", "export it again") from error
        try:
            return cls.from_json(table)
        except BundleError as error:
            raise BundleError(str(path), error.found, error.do) from error

    def write(self, path: Path) -> None:
        """Write a policy file, replacing an older one in one step."""
        write_text(path, json.dumps(self.to_json(), indent=2) + "\n")

    def _rows_of_thresholds(self, n: int, thresholds: PerRow) -> NDArray[np.float32]:
        table = np.asarray(thresholds, dtype=np.float32)
        k = len(self.exits)
        if table.shape not in ((k - 1,), (n, k - 1)):
            raise ConfigError(
                f"thresholds for {n} rows and exits {self.exits}",
                f"shape {table.shape}",
                f"give ({k - 1},) or ({n}, {k - 1}): one per exit but the deepest",
            )
        _check_thresholds(table)
        return table if table.ndim == 2 else np.broadcast_to(table, (n, k - 1))

    def _last_positions(self, n: int, max_exit: PerRow) -> NDArray[np.int64]:
        asked = np.asarray(max_exit)
        if asked.shape not in ((), (n,)) or not np.issubdtype(asked.dtype, np.integer):
            raise ConfigError(
                f"max_exit for {n} rows",
                f"{asked.dtype} of shape {asked.shape}",
                f"give one exit number, or {n} of them",
            )
        # Not np.isin, which takes ten times as long: this is done for every request.
        position = np.searchsorted(self.exits, asked)
        known = np.take(self.exits, position, mode="clip") == asked
        if not known.all():
            wrong = np.atleast_1d(asked)[~np.atleast_1d(known)][0]
            raise ConfigError(
                f"max_exit {wrong}",
                f"the kept exits are {', '.join(map(str, self.exits))}",
                "name one of them",
            )
        return np.broadcast_to(position, (n,))


def compact(state: State, rows: NDArray[np.int64]) -> State:
    """Keep some rows of a state: the same rows that stay in hidden."""
    return {name: array[rows] for name, array in state.items()}


def join(states: Sequence[State]) -> State:
    """Return the state of several batches' rows, one batch after the other.

    All must have been started with the same settings, so that they have the same arrays.
    """
    if len(states) == 1:
        return states[0]
    return {name: np.concatenate([state[name] for state in states]) for name in states[0]}


def _check_thresholds(thresholds: NDArray[Any]) -> None:
    # NaN is neither at least 0 nor at most 1, and the smallest of numbers with NaN is NaN.
    if thresholds.min(initial=0.0) >= 0.0 and thresholds.max(initial=1.0) <= 1.0:
        return
    wrong = thresholds[~((thresholds >= 0.0) & (thresholds <= 1.0))].ravel()[0]
    raise ConfigError(f"threshold {wrong}", "is no probability", "give thresholds between 0 and 1")
