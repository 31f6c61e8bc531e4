"""The charts: accuracy against cost, where images leave, how far confidence can be trusted."""

import base64
import io
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, PercentFormatter

from exitkit.atomic import replacing
from exitkit.engine.timing import limit_ms
from exitkit.policy.metrics import Bin, calibration_error
from exitkit.report.collect import Findings
from exitkit.report.theme import PRINT, Theme

mpl.use("Agg")
WIDTH, HEIGHT = 6.0, 4.4
Draw = Callable[[Axes, Findings, Theme], None]


def svg(draw: Draw, findings: Findings, theme: Theme) -> str:
    """Return one chart as a data address that an <img> shows without any request."""
    with theme.applied():
        figure = Figure((WIDTH, HEIGHT), layout="constrained")
        draw(figure.add_subplot(), findings, theme)
        return _address(figure)


def reliability_svg(findings: Findings, theme: Theme) -> str:
    """Return the row of reliability charts, one per kept exit."""
    count = len(findings.reliability)
    with theme.applied():
        figure = Figure((2 * WIDTH, 3.4), layout="constrained")
        reliability(list(figure.subplots(1, count, squeeze=False, sharey=True)[0]), findings, theme)
        return _address(figure)


def poster(findings: Findings, headline: str, path: Path) -> None:
    """Write one PNG with all charts, to be shown elsewhere."""
    with PRINT.applied():
        figure = Figure((12.4, 13.0), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
        parts = figure.subfigures(3, 1, squeeze=False, height_ratios=[0.22, 2.75, 1])
        head, top, bottom = parts[:, 0]
        _title(head, findings, headline)
        panels = top.subplots(2, 2)
        for axes, draw in zip(panels.flat, (latency, macs, shares, exits), strict=True):
            draw(axes, findings, PRINT)
        count = len(findings.reliability)
        reliability(list(bottom.subplots(1, count, squeeze=False, sharey=True)[0]), findings, PRINT)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=110)


def _title(figure: SubFigure, findings: Findings, headline: str) -> None:
    evidence = findings.evidence
    facts = [evidence.card.arch, evidence.card.method, evidence.data, f"run {evidence.run}"]
    facts.append(str(evidence.conditions.get("cpu", "")))
    figure.text(0.012, 0.92, textwrap.fill(headline, 92), fontsize=15, fontweight="bold", va="top")
    figure.text(0.012, 0.06, ", ".join(filter(None, facts)), color=PRINT.muted, va="bottom")


def latency(axes: Axes, findings: Findings, theme: Theme) -> None:
    """Draw accuracy against measured time per image at batch 1."""
    known = [(timing.mean_ms, point.accuracy) for point, timing in findings.measured]
    costs = findings.evidence.costs
    statics = [(r.timing.mean_ms, r.accuracy, r.exit) for r in findings.rivals if r.timing]
    axes.set_title("Accuracy against time")
    axes.set_xlabel("milliseconds per image, one at a time (measured)")
    if not known:
        _absent(axes, "nothing was measured on this machine", theme)
        return
    if costs is not None:
        limits = [(limit_ms(costs, point.shares, 1), point.accuracy) for point in findings.points]
        axes.plot(*zip(*limits, strict=True), color=theme.muted, lw=1, ls=(0, (2, 2)),
                  label="segments' times added up (computed)")  # fmt: skip
    timing = findings.timing
    chosen = (timing.mean_ms, findings.reached.accuracy) if timing else None
    _frontier(axes, known, statics, chosen, theme, marker="o")


def macs(axes: Axes, findings: Findings, theme: Theme) -> None:
    """Draw accuracy against multiply-adds."""
    curve = [(point.mean_macs / 1e6, point.accuracy) for point in findings.points]
    statics = [(r.macs / 1e6, r.accuracy, r.exit) for r in findings.rivals]
    chosen = (findings.reached.mean_macs / 1e6, findings.reached.accuracy)
    axes.set_title("Accuracy against multiply-adds")
    axes.set_xlabel("million multiply-adds per image, mean (computed)")
    _frontier(axes, curve, statics, chosen, theme)


def _frontier(
    axes: Axes,
    curve: Sequence[tuple[float, float]],
    statics: Sequence[tuple[float, float, int]],
    chosen: tuple[float, float] | None,
    theme: Theme,
    marker: str | None = None,
) -> None:
    axes.plot(*zip(*curve, strict=True), color=theme.line, lw=2, marker=marker, ms=4.5,
              label="early exit, as the threshold sweeps")  # fmt: skip
    if statics:
        xs, ys, _ = zip(*statics, strict=True)
        axes.plot(xs, ys, "D", color=theme.muted, ms=6, label="cut at one exit, no other")
        for x, y, number in statics:
            axes.annotate(f"{number}", (x, y), (7, -11), textcoords="offset points",
                          color=theme.muted, fontsize=9)  # fmt: skip
    if chosen is not None:
        axes.plot(*chosen, "*", color=theme.accent, ms=15, label="recommended", zorder=5)
    axes.set_ylabel("right answers on the test images")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlim(left=0)
    axes.margins(y=0.12)
    # Below the chart: inside it would hide a point of some run.
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.14), ncols=2, borderpad=0,
                columnspacing=1.2, handlelength=1.6)  # fmt: skip


def shares(axes: Axes, findings: Findings, theme: Theme) -> None:
    """Draw where the images leave as the threshold sweeps."""
    axes.set_title("Where the images leave")
    axes.set_xlabel("threshold")
    axes.set_ylabel("share of the test images (computed)")
    points = findings.points
    numbers = findings.evidence.manifest.exits
    colours = theme.exit_colours(len(numbers))
    if len(points) == 1:
        _absent(axes, f"every image leaves at exit {numbers[0]}", theme)
        return
    axes.stackplot(
        [_stretch(point.threshold or 0.0) for point in points],
        *zip(*(point.shares for point in points), strict=True),
        colors=colours,
        alpha=0.9,
        lw=0,
    )
    if findings.reached.threshold is not None:
        axes.axvline(_stretch(findings.reached.threshold), color=theme.accent, lw=2)
    ticks = [0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999]
    axes.set_xticks([_stretch(t) for t in ticks], [f"{t:g}" for t in ticks])
    axes.set_xlim(0, _stretch(1.0))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(visible=False)
    _name_areas(axes, findings, theme)


def _name_areas(axes: Axes, findings: Findings, theme: Theme) -> None:
    """Write each exit's name where its area is widest."""
    points = [p for p in findings.points if p.threshold is not None and 0 < p.threshold < 0.9999]
    for position, number in enumerate(findings.evidence.manifest.exits):
        widest = max(points, key=lambda p: p.shares[position], default=None)
        if widest is None or widest.shares[position] < 0.08:
            continue
        below = sum(widest.shares[:position])
        place = min(max(_stretch(widest.threshold or 0.0), 0.45), 3.55)
        line = _stretch(findings.reached.threshold or 0.0)
        axes.text(
            line + 0.4 if abs(place - line) < 0.4 else place,
            below + widest.shares[position] / 2,
            f"exit {number}",
            color=theme.label,
            ha="center",
            va="center",
            fontweight="bold",
        )


def exits(axes: Axes, findings: Findings, theme: Theme) -> None:
    """Draw what each exit answers at the recommended threshold, right and wrong."""
    axes.set_title("What each exit answers at the recommended threshold")
    axes.set_ylabel("share of the test images (computed)")
    numbers = findings.evidence.manifest.exits
    reached = findings.reached
    right = [s * (a or 0.0) for s, a in zip(reached.shares, reached.exit_accuracy, strict=True)]
    wrong = [s - r for s, r in zip(reached.shares, right, strict=True)]
    names = [f"exit {number}" for number in numbers]
    axes.bar(names, right, 0.55, color=theme.exit_colours(len(numbers)))
    axes.bar(names, wrong, 0.55, bottom=right, color=theme.accent, label="wrong answers")
    for place, (share, accuracy) in enumerate(
        zip(reached.shares, reached.exit_accuracy, strict=True)
    ):
        told = "" if accuracy is None else f"\n{accuracy:.1%} right"
        axes.annotate(f"{share:.1%}{told}", (place, share), (0, 5), textcoords="offset points",
                      ha="center", va="bottom", fontsize=9)  # fmt: skip
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_ylim(0, max(reached.shares) * 1.25)
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper right")


def reliability(panels: Sequence[Axes], findings: Findings, theme: Theme) -> None:
    """Draw, per kept exit, how often answers of each confidence are right."""
    numbers = findings.evidence.manifest.exits
    colours = theme.exit_colours(len(numbers))
    for axes, number, colour, bins in zip(
        panels, numbers, colours, findings.reliability, strict=True
    ):
        _reliability(axes, bins, colour, theme)
        axes.set_title(f"Exit {number}: calibration error {calibration_error(bins):.3f}")
        axes.set_xlabel("confidence")
    panels[0].set_ylabel("share of right answers (computed)")


def _reliability(axes: Axes, bins: Sequence[Bin], colour: str, theme: Theme) -> None:
    full = [row for row in bins if row.count and row.accuracy is not None]
    most = max((row.count for row in full), default=1)
    for row in full:
        # Full bins stand out, bins of a few images are faint: they say little.
        axes.bar((row.low + row.high) / 2, row.accuracy or 0.0, (row.high - row.low) * 0.9,
                 color=colour, alpha=0.25 + 0.75 * (row.count / most) ** 0.5)  # fmt: skip
    axes.plot([0, 1], [0, 1], color=theme.accent, lw=1.4, ls=(0, (4, 3)))
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _stretch(threshold: float) -> float:
    """Widen the scale near 1, where thresholds decide: nines per unit, ended at 0.9999."""
    return -math.log10(max(1.0 - threshold, 1e-4))


def _absent(axes: Axes, text: str, theme: Theme) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", color=theme.muted,
              transform=axes.transAxes)  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])


def _address(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
