"""Does early exit pay here? The recommended threshold against every network without exits."""

from dataclasses import dataclass

from exitkit.report.collect import Findings, Rival

# Below these it is not worth the trouble: a tenth of the cost, a point of accuracy.
LEAST_SAVING, MOST_LOST = 0.10, 0.01


@dataclass(frozen=True)
class Verdict:
    """A plain answer.

    Attributes:
        pays: whether early exit is worth having here.
        headline: one sentence.
        reasons: sentences with the numbers behind it.
    """

    pays: bool
    headline: str
    reasons: tuple[str, ...]


def verdict(findings: Findings) -> Verdict:
    """Judge the recommended threshold, by measured time where there is one, else by MACs.

    It pays when it saves at least a tenth of the whole network's cost, loses at most one point
    of its accuracy, and no network cut at one exit is at least as accurate and as cheap.
    """
    if len(findings.reached.shares) == 1:
        headline = "This bundle has one exit: no image can leave early."
        return Verdict(False, headline, _reasons(findings))
    lost = findings.whole.accuracy - findings.reached.accuracy
    saved = 1 - _cost(findings) / _rival_cost(findings, findings.whole)
    objection = _objection(findings, saved, lost)
    if objection is not None:
        headline = f"Early exit does not pay here: {objection}."
    else:
        less = "less" if _timed(findings) else "fewer"
        headline = f"Early exit pays here: {saved:.0%} {less} {_unit(findings)}, {_change(lost)}."
    return Verdict(objection is None, headline, _reasons(findings))


def _objection(findings: Findings, saved: float, lost: float) -> str | None:
    rival = nearest(findings)
    cheaper = rival is not None and _rival_cost(findings, rival) <= _cost(findings)
    if rival is not None and cheaper and rival.exit != findings.whole.exit:
        return (
            f"the network cut at exit {rival.exit}, without any other exit, is at least as "
            "accurate and costs no more"
        )
    if saved < 0:
        return f"it takes {-saved:.0%} more {_unit(findings)} than the network without exits"
    if saved < LEAST_SAVING:
        return f"it saves only {saved:.0%} of the {_unit(findings)}"
    if lost > MOST_LOST:
        return f"it loses {lost * 100:.2f} points of accuracy"
    return None


def _reasons(findings: Findings) -> tuple[str, ...]:
    reached, whole, timing = findings.reached, findings.whole, findings.timing
    test = len(findings.evidence.test.labels)
    reasons = [
        f"Right answers on {test:,} test images: {reached.accuracy:.2%} at the recommended "
        f"threshold, {whole.accuracy:.2%} by the whole network (computed from scores).",
        f"Multiply-adds per image: {millions(reached.mean_macs)} on average, "
        f"{millions(whole.macs)} for the whole network without exits (computed).",
    ]
    if timing is not None and whole.timing is not None:
        reasons.append(
            f"Time per image, one at a time: {timing.mean_ms:.2f} ms on average, "
            f"{whole.timing.mean_ms:.2f} ms for the whole network (measured on "
            f"{timing.images} test images, median of {timing.rounds} rounds)."
        )
    rival = nearest(findings)
    if rival is not None:
        reasons.append(
            f"The cheapest single network of at least that accuracy is the one cut at exit "
            f"{rival.exit}: {rival.accuracy:.2%} at {millions(rival.macs)}."
        )
    return tuple(reasons)


def nearest(findings: Findings) -> Rival | None:
    """Return the cheapest static network that is at least as accurate as the recommendation."""
    able = [r for r in findings.rivals if r.accuracy >= findings.reached.accuracy]
    return min(able, key=lambda r: _rival_cost(findings, r), default=None)


def millions(macs: float) -> str:
    """Write multiply-adds in millions."""
    return f"{macs / 1e6:,.1f} M"


def _timed(findings: Findings) -> bool:
    return findings.timing is not None and all(r.timing is not None for r in findings.rivals)


def _unit(findings: Findings) -> str:
    return "time per image" if _timed(findings) else "multiply-adds per image"


def _cost(findings: Findings) -> float:
    if _timed(findings) and findings.timing is not None:
        return findings.timing.mean_ms
    return findings.reached.mean_macs


def _rival_cost(findings: Findings, rival: Rival) -> float:
    if _timed(findings) and rival.timing is not None:
        return rival.timing.mean_ms
    return rival.macs


def _change(lost: float) -> str:
    if abs(lost) < 5e-5:
        return "at the same accuracy"
    amount = f"{abs(lost) * 100:.2f} points of accuracy"
    return f"for {amount}" if lost > 0 else f"and {amount} more"
