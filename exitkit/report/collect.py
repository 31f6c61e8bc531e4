"""Everything a report says, as plain values: computed from scores, or measured and handed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from exitkit.bundle import Manifest
from exitkit.engine.timing import Costs
from exitkit.policy import criteria, metrics, solvers
from exitkit.policy.policy import Policy
from exitkit.policy.solvers import Point
from exitkit.report.latency import Timing
from exitkit.report.tables import Column
from exitkit.runs import NetworkCard
from exitkit.scores import Scores

EXIT_COLUMNS = (
    Column("exit", "exit"),
    Column("top1", "top-1", ".2%"),
    Column("top5", "top-5", ".2%"),
    Column("nll", "NLL", ".3f"),
    Column("ece", "ECE", ".3f"),
    Column("macs", "MACs", ",.0f"),
)
PAPER_COLUMNS = (
    Column("answer", "answer"),
    Column("top1_error", "top-1 error", ".2%"),
    Column("top5_error", "top-5 error", ".2%"),
    Column("nll", "NLL", ".3f"),
    Column("ece10", "ECE, 10 bins", ".2%"),
    Column("aurc_1000", "AURC x1000", ".2f"),
    Column("eaurc_1000", "E-AURC x1000", ".2f"),
)
MEASURED_POINTS = 7


@dataclass(frozen=True)
class Static:
    """The same network cut at one exit: its stages up to there and that head, nothing else.

    Attributes:
        exit: where it is cut.
        macs: multiply-adds per image, computed.
        timing: measured, or None where it was not run.
    """

    exit: int
    macs: float
    timing: Timing | None = None


@dataclass(frozen=True)
class Rival:
    """A static network as a point of comparison.

    Attributes:
        exit: where the network is cut.
        accuracy: on the test images.
        macs: multiply-adds per image, computed.
        timing: measured, or None where it was not run.
    """

    exit: int
    accuracy: float
    macs: float
    timing: Timing | None


@dataclass(frozen=True)
class Leaver:
    """One test image and where it left.

    Attributes:
        row: position in the table of test scores.
        exit: number of the exit that answered.
        answer, truth: labels.
        probability: of the answer.
    """

    row: int
    exit: int
    answer: str
    truth: str
    probability: float


@dataclass(frozen=True)
class Evidence:
    """What a report is made from.

    Attributes:
        run: name of the run.
        data: name of the data set.
        card: what was trained.
        manifest: of the bundle; its exits are the kept ones.
        policy: of the bundle.
        tune, test: scores of all exits that were trained.
        statics: the network cut at each of its exits, shallow to deep.
        swept: what the engine measured at some thresholds; the recommended one is among them.
        conditions: machine, versions, commit, seed: what the measurements depend on.
        costs: times of the bundle's segments on this machine, or None.
    """

    run: str
    data: str
    card: NetworkCard
    manifest: Manifest
    policy: Policy
    tune: Scores
    test: Scores
    statics: tuple[Static, ...]
    swept: Mapping[float, Timing]
    conditions: Mapping[str, str | int]
    costs: Costs | None = None


@dataclass(frozen=True)
class Findings:
    """What the evidence says; K exits are kept.

    Attributes:
        evidence: what it was made from.
        temperatures: [K] of the kept exits.
        points: on the test images, one per threshold of the sweep, rising.
        measured: on the test images, the points whose time was measured, rising.
        chosen: the point that was chosen on the tune images.
        reached: the same threshold on the test images.
        rivals: the static networks, shallow to deep.
        exits: accuracy and calibration of every trained exit on all test images.
        reliability: bins per kept exit, at the bundle's temperatures.
        first, last: images that left at the first and at the last kept exit.
    """

    evidence: Evidence
    temperatures: tuple[float, ...]
    points: tuple[Point, ...]
    measured: tuple[tuple[Point, Timing], ...]
    chosen: Point
    reached: Point
    rivals: tuple[Rival, ...]
    exits: tuple[Mapping[str, float], ...]
    reliability: tuple[tuple[metrics.Bin, ...], ...]
    first: tuple[Leaver, ...]
    last: tuple[Leaver, ...]

    @property
    def whole(self) -> Rival:
        """The plain network: no early exit."""
        return self.rivals[-1]

    @property
    def timing(self) -> Timing | None:
        """What was measured at the recommended threshold."""
        return self.evidence.swept.get(_single(self.chosen))


def kept(scores: Scores, manifest: Manifest) -> Scores:
    """Return the scores of the bundle's exits, with the costs of leaving at them in the bundle."""
    costs = np.cumsum([segment.macs for segment in manifest.segments], dtype=np.float64)
    return scores.keep(manifest.exits, costs)


def recommend(tune: Scores, policy: Policy) -> Point:
    """Choose a threshold on the tune images; `tune` holds the kept exits only."""
    return solvers.choose(solvers.sweep(tune, policy.temperatures, policy.network))


def at(scores: Scores, policy: Policy, threshold: float) -> Point:
    """Return what one shared threshold gives on the images of `scores` (kept exits only)."""
    point = solvers.operating_point(scores, policy.with_threshold(threshold))
    # A single exit has no threshold; its point still stands for the one that was asked for.
    return replace(point, threshold=threshold)


def thresholds_to_measure(tune: Scores, policy: Policy) -> list[float]:
    """Choose the thresholds to measure: the recommended one and some evenly spread in cost."""
    points = solvers.sweep(tune, policy.temperatures, policy.network)
    goals = np.linspace(points[0].mean_macs, points[-1].mean_macs, MEASURED_POINTS)
    spread = [min(points, key=lambda p: abs(p.mean_macs - goal)) for goal in goals]
    chosen = solvers.choose(points)
    return sorted({_single(point) for point in (*spread, chosen)})


def findings(evidence: Evidence, pictures: int = 10) -> Findings:
    """Work out everything that the report shows.

    Args:
        evidence: scores of one network and what was measured with it.
        pictures: how many images to pick of those that left first, and of those that left last.

    Raises:
        BundleError: policy and scores belong to different networks.
    """
    tune, test = (kept(scores, evidence.manifest) for scores in (evidence.tune, evidence.test))
    policy = evidence.policy
    policy.require(evidence.tune.network, tune.exits)
    chosen = recommend(tune, policy)
    threshold = _single(chosen)
    first, last = _leavers(test, policy.with_threshold(threshold), evidence.card.classes, pictures)
    return Findings(
        evidence=evidence,
        temperatures=policy.temperatures,
        points=tuple(solvers.sweep(test, policy.temperatures, policy.network)),
        measured=tuple(
            (at(test, policy, threshold), evidence.swept[threshold])
            for threshold in sorted(evidence.swept)
        ),
        chosen=chosen,
        reached=at(test, policy, threshold),
        rivals=_rivals(evidence),
        exits=tuple(metrics.per_exit(evidence.test)),
        reliability=_reliability(test, policy),
        first=first,
        last=last,
    )


def _single(point: Point) -> float:
    """Return the threshold of a point of a sweep, which always has one."""
    assert point.threshold is not None
    return point.threshold


def _rivals(evidence: Evidence) -> tuple[Rival, ...]:
    test = evidence.test
    return tuple(
        Rival(
            static.exit,
            metrics.top(test.logits[test.exits.index(static.exit)], test.labels, 1),
            static.macs,
            static.timing,
        )
        for static in evidence.statics
    )


def _reliability(test: Scores, policy: Policy) -> tuple[tuple[metrics.Bin, ...], ...]:
    return tuple(
        tuple(
            metrics.reliability(
                criteria.max_probability(logits, temperature),
                metrics.correct(logits, test.labels),
            )
        )
        for logits, temperature in zip(test.logits, policy.temperatures, strict=True)
    )


def _leavers(
    test: Scores, policy: Policy, classes: Sequence[str], count: int
) -> tuple[tuple[Leaver, ...], tuple[Leaver, ...]]:
    """Pick images that left first, the surest of each class in turn, and the least sure last."""
    taken = solvers.exits_taken(test, policy)
    sure = np.stack(
        [
            criteria.max_probability(logits, temperature)
            for logits, temperature in zip(test.logits, policy.temperatures, strict=True)
        ]
    )

    def leavers(rows: NDArray[np.int64]) -> tuple[Leaver, ...]:
        return tuple(
            Leaver(
                int(row),
                test.exits[taken[row]],
                classes[int(test.logits[taken[row], row].argmax())],
                classes[int(test.labels[row])],
                float(sure[taken[row], row]),
            )
            for row in rows
        )

    ranked = np.argsort(-sure[0], kind="stable")
    early = _in_turn(ranked[taken[ranked] == 0], test.labels)[:count]
    if len(test.exits) == 1:
        return leavers(early), ()
    late = ranked[::-1][taken[ranked[::-1]] == len(test.exits) - 1][:count]
    return leavers(early), leavers(late)


def _in_turn(rows: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order rows so that every class has its first before any has its second."""
    seen: dict[int, int] = {}
    turns = []
    for row in rows:
        turns.append(seen.get(int(labels[row]), 0))
        seen[int(labels[row])] = turns[-1] + 1
    return rows[np.argsort(np.asarray(turns, dtype=np.int64), kind="stable")]
