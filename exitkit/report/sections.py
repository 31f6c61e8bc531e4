"""The tables and tiles of the report, as HTML; every number says whether it was measured."""

import html
from collections.abc import Mapping, Sequence

from exitkit.engine.timing import Costs
from exitkit.policy import metrics
from exitkit.report.collect import EXIT_COLUMNS, PAPER_COLUMNS, Findings
from exitkit.report.frontier import millions
from exitkit.report.tables import Column, Row, Value

Cells = dict[str, Value]
MEASURED, COMPUTED = '<span class="how">measured</span>', '<span class="how">computed</span>'


def tiles(findings: Findings) -> str:
    """Return the four numbers that matter most."""
    reached, whole, timing = findings.reached, findings.whole, findings.timing
    shown = [
        ("recommended threshold", _short(reached.threshold), "chosen on tune images", COMPUTED),
        (
            "right answers",
            f"{reached.accuracy:.2%}",
            f"{whole.accuracy:.2%} without early exit",
            COMPUTED,
        ),
        (
            "multiply-adds per image",
            millions(reached.mean_macs),
            f"{millions(whole.macs)} without early exit",
            COMPUTED,
        ),
    ]
    if timing is not None:
        rest = "" if whole.timing is None else f"{whole.timing.mean_ms:.2f} ms without early exit"
        shown.append(("mean time per image", f"{timing.mean_ms:.2f} ms", rest, MEASURED))
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><span>{name}</span><b>{value}</b><span>{rest}</span> {how}</div>'
            for name, value, rest, how in shown
        )
        + "</div>"
    )


def operating(findings: Findings) -> str:
    """Return the table of operating points: thresholds that were measured, then the cuts."""
    numbers = findings.evidence.manifest.exits
    chosen = findings.reached.threshold
    rows: list[Cells] = []
    for point, timing in findings.measured or ((findings.reached, None),):
        row = _cost(f"threshold {_short(point.threshold)}", point.accuracy, point.mean_macs, timing)
        row |= {f"exit {k}": share for k, share in zip(numbers, point.shares, strict=True)}
        rows.append(row | {"mark": point.threshold == chosen})
    for rival in findings.rivals:
        rows.append(_cost(f"cut at exit {rival.exit}", rival.accuracy, rival.macs, rival.timing))
    shares = [Column(f"exit {k}", f"leave at exit {k}", ".1%") for k in numbers]
    columns = [
        Column("policy", "policy"),
        Column("accuracy", "right answers", ".2%"),
        Column("macs", "mean MACs, M", ",.2f"),
        Column("mean_ms", "mean ms", ".2f"),
        Column("p50_ms", "p50 ms", ".2f"),
        Column("p95_ms", "p95 ms", ".2f"),
        *shares,
    ]
    timing = findings.timing
    how = (
        ""
        if timing is None
        else (
            f" Milliseconds are {MEASURED} with this bundle's engine, one image at a time, on "
            f"{timing.images} test images, the median of {timing.rounds} interleaved rounds each."
        )
    )
    return (
        "<section><h2>Operating points</h2><p>On the test images. Accuracy, multiply-adds and "
        f"shares are {COMPUTED} from the scores.{how} A network cut at one exit has the stages up "
        "to there and that head, nothing else. The recommended threshold is coloured; it was "
        f"chosen on the tune images.</p>{_table(rows, columns)}</section>"
    )


def segments(findings: Findings) -> str:
    """Return the cost table of this machine, or nothing where there is none."""
    costs = findings.evidence.costs
    if costs is None:
        return ""
    rows: list[Cells] = [
        {"segment": f"to exit {number}", **_by_batch(costs, times)}
        for number, times in zip(costs.exits, costs.segment_ms, strict=True)
    ]
    rows.append({"segment": "all, no exit", **_by_batch(costs, costs.all_segments_ms)})
    columns = [Column("segment", "milliseconds of the segment")]
    columns += [Column(str(size), f"batch {size}", ".2f") for size in costs.batch_sizes]
    return (
        f"<section><h2>What the segments cost here</h2><p>{MEASURED}: median of {costs.rounds} "
        f"interleaved rounds, {html.escape(costs.computed)}.</p>"
        f"{_table(rows, columns)}</section>"
    )


def trained(findings: Findings) -> str:
    """Return accuracy and calibration of every exit that was trained."""
    published = [dict(row) for row in metrics.as_published(findings.evidence.test)]
    return (
        "<section><h2>Every exit on every test image</h2><p>As trained, before temperatures; "
        f"{COMPUTED} from the scores. MACs count the heads of all exits on the way; NLL is the "
        "negative log-likelihood in nats, ECE the expected calibration error.</p>"
        f"{_table([dict(row) for row in findings.exits], EXIT_COLUMNS)}"
        "<p>The same as papers print it. The ensemble is the mean of all exits' logits; the oracle "
        "union counts an image as right if any exit is. AURC is the area under the risk-coverage "
        "curve, E-AURC its excess over the least that these errors allow.</p>"
        f"{_table(published, PAPER_COLUMNS)}</section>"
    )


def conditions(findings: Findings) -> str:
    """Return what the numbers depend on."""
    evidence = findings.evidence
    facts: Mapping[str, str | int] = {
        "run": evidence.run,
        "bundle": f"{evidence.manifest.name}, exits {', '.join(map(str, evidence.manifest.exits))}",
        "network": evidence.manifest.network[:16],
        "images": f"{len(evidence.tune.labels):,} tune, {len(evidence.test.labels):,} test",
        "temperatures": ", ".join(f"{t:.3f}" for t in findings.temperatures),
        "counting": "one multiply-add is 1; convolutions and linear layers; heads included",
        **evidence.conditions,
    }
    rows = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>"
        for name, value in facts.items()
        if value != ""
    )
    return f"<section><h2>Conditions</h2><p></p><dl>{rows}</dl></section>"


def _cost(policy: str, accuracy: float, macs: float, timing: object) -> Cells:
    row: Cells = {"policy": policy, "accuracy": accuracy, "macs": macs / 1e6}
    for name in ("mean_ms", "p50_ms", "p95_ms"):
        row[name] = getattr(timing, name, None)
    return row


def _short(threshold: float | None) -> str:
    return "none" if threshold is None else f"{threshold:.4g}"


def _by_batch(costs: Costs, times: Sequence[float]) -> dict[str, float]:
    return {str(size): ms for size, ms in zip(costs.batch_sizes, times, strict=True)}


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Return an HTML table; every column but text is set to the right."""
    classes = [
        "" if any(isinstance(row.get(c.key), str) for row in rows) else ' class="number"'
        for c in columns
    ]
    heads = "".join(
        f"<th{kind}>{html.escape(c.heading)}</th>" for c, kind in zip(columns, classes, strict=True)
    )
    body = ""
    for row in rows:
        cells = "".join(
            f"<td{kind}>{html.escape(c.cell(row))}</td>"
            for c, kind in zip(columns, classes, strict=True)
        )
        body += f'<tr class="mark">{cells}</tr>' if row.get("mark") else f"<tr>{cells}</tr>"
    return f'<div class="scroll"><table><tr>{heads}</tr>{body}</table></div>'
